use super::*;

const NOW: u64 = 1_700_000_000;

fn key() -> Key {
    Key::from_hex(&"11".repeat(32)).unwrap()
}

fn escrow() -> EscrowId {
    "7".parse().unwrap()
}

#[test]
fn a_request_is_its_signers() {
    let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
    let of = |signature: &str, body: &[u8]| signer(&escrow(), body, Some(signature), Some(&time), NOW);
    let me = key().address().unwrap();
    assert!(me.as_str().starts_with("gonka1"), "{me}");
    let bytes = hex::decode(&signature).unwrap();
    assert_eq!(of(&signature, b"{}"), Ok(me.clone()));
    assert_eq!(of(&format!("0x{signature}"), b"{}"), Ok(me.clone()));
    assert_eq!(of(&STANDARD.encode(&bytes), b"{}"), Ok(me.clone()));
    for (v, is_read) in [(27, true), (2, false), (26, false), (29, false), (255, false)] {
        let mut other = bytes.clone();
        other[64] = other[64].saturating_add(v);
        assert_eq!(of(&hex::encode(other), b"{}") == Ok(me.clone()), is_read, "{v} more");
    }
    // Another body is signed by another, if by anybody: recovery finds some key.
    assert_ne!(of(&signature, b"{ }").ok(), Some(me));
}

#[test]
fn the_same_words_have_one_signature() {
    let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
    let bytes = hex::decode(signature).unwrap();
    let low = Signature::from_slice(&bytes[..64]).unwrap();
    let high = Signature::from_scalars(low.r().to_bytes(), (-*low.s()).to_bytes()).unwrap();
    let mirrored = [high.to_bytes().as_slice(), &[bytes[64] ^ 1]].concat();
    let said = signer(&escrow(), b"{}", Some(&hex::encode(mirrored)), Some(&time), NOW);
    assert_eq!(said, Err(AuthError::Signature));
}

#[test]
fn what_is_wrong_is_said() {
    let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
    let check = |signature: Option<&str>, time: Option<&str>, now, expected: &str| {
        let said = signer(&escrow(), b"{}", signature, time, now).unwrap_err();
        assert_eq!(said.to_string(), expected);
    };
    let (signature, time) = (Some(signature.as_str()), Some(time.as_str()));
    check(None, time, NOW, "the header x-devshard-signature is missing");
    check(signature, None, NOW, "the header x-devshard-timestamp is missing");
    check(signature, Some("soon"), NOW, "x-devshard-timestamp: not a number of seconds since 1970");
    let later = "x-devshard-timestamp: 31 s later than this host's clock, and 30 s may be";
    check(signature, time, NOW - 31, later);
    let earlier = "x-devshard-timestamp: 31 s earlier than this host's clock, and 30 s may be";
    check(signature, time, NOW + 31, earlier);
    check(Some("zz"), time, NOW, "x-devshard-signature: not 65 bytes in hex or base64");
    let none = "x-devshard-signature: not a signature of this escrow, body and time";
    check(Some(&"00".repeat(65)), time, NOW, none);
}

#[test]
fn a_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", key()), "Key(hidden)");
    assert_eq!(Key::from_hex(&"00".repeat(32)).unwrap_err(), KeyError);
    assert_eq!(Key::from_hex("11").unwrap_err(), KeyError);
    for text in ["11".repeat(33), "zz".repeat(32), "ff".repeat(32)] {
        assert_eq!(Key::from_hex(&text).unwrap_err(), KeyError, "{text}");
    }
    assert_eq!(Key::from_hex(&key().to_hex()).unwrap().address(), key().address());
    fn is_overwritten<T: zeroize::ZeroizeOnDrop>() {}
    is_overwritten::<SigningKey>();
}

/// Values of another implementation, of curve, nonce, hashes and bech32: what both get wrong alike would pass otherwise.
#[test]
fn another_implementation_agrees() {
    // The account of the key 1 is the one that every wallet's documentation shows.
    let one = Key::from_hex(&format!("{:064x}", 1)).unwrap();
    assert_eq!(one.address().unwrap().as_str(), "gonka1w508d6qejxtdg4y5r3zarvary0c5xw7k2gsyg6");
    assert_eq!(key().address().unwrap().as_str(), "gonka1l3e9pgs3mmwuwrh95fecme0s0qtn2880el49wm");
    let escrow = "escrow-7".parse().unwrap();
    let (signature, time) = key().sign_request(&escrow, br#"{"nonce":1}"#, NOW).unwrap();
    let expected = "66f339ba8bd3fbfdc016f55880bb97f74ef4cee2ef48c82de363909f8efdacff\
                    0c75aad10b6f57751dbc625c5f8082665c5c621148088bf899a7d72c8adad55200";
    assert_eq!((signature.as_str(), time.as_str()), (expected, "1700000000"));
}

#[test]
fn a_clock_may_be_wrong_by_so_much_and_no_more() {
    let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
    for (now_s, may_s, expected) in [
        (NOW, 0, Ok(())),
        (NOW + 30, 30, Ok(())),
        (NOW - 30, 30, Ok(())),
        (NOW + 6, 5, Err(AuthError::Drift { by_s: 6, direction: Direction::Earlier, may_s: 5 })),
        (NOW - 6, 5, Err(AuthError::Drift { by_s: 6, direction: Direction::Later, may_s: 5 })),
        (0, u64::MAX, Ok(())),
    ] {
        let said = verify(&escrow(), b"{}", Some(&signature), Some(&time), now_s, may_s);
        assert_eq!(said.map(|address| assert_eq!(Some(address), key().address())), expected, "at {now_s}");
    }
}

/// Everything that is signed counts: another escrow or time is signed by nobody known.
#[test]
fn a_signature_is_of_one_escrow_and_one_time() {
    let (signature, time) = key().sign_request(&escrow(), b"{}", NOW).unwrap();
    let me = key().address().unwrap();
    let other = "8".parse().unwrap();
    assert_ne!(signer(&other, b"{}", Some(&signature), Some(&time), NOW).ok(), Some(me.clone()));
    let later = (NOW + 1).to_string();
    assert_ne!(signer(&escrow(), b"{}", Some(&signature), Some(&later), NOW).ok(), Some(me));
}
