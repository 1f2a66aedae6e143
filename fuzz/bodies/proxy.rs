//! The header of a balancer, or of whoever pretends to be one: whoever reads as much as is asked for ends with the
//! same as whoever has it all, and nothing behind the header is asked for.

use router_core::proxy::{MAX_HEADER, Parsed, parse};

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    let whole = parse(data);
    let mut asked = 0;
    let by_pieces = loop {
        match parse(&data[..asked]) {
            Ok(Parsed::NeedMore(more)) => {
                assert!(more > asked && more <= MAX_HEADER, "it asks for nothing, or for too much");
                if more > data.len() {
                    // No more comes: what is there may be wrong already.
                    break parse(data);
                }
                asked = more;
            }
            other => break other,
        }
    };
    match (whole, by_pieces) {
        (Ok(Parsed::Header(header)), Ok(Parsed::Header(same))) => {
            assert_eq!(header, same);
            assert_eq!(header.len, asked, "bytes behind the header were asked for");
        }
        (Ok(Parsed::NeedMore(_)), Ok(Parsed::NeedMore(_))) => {}
        (Err(violation), Err(same)) => assert_eq!(violation, same),
        (whole, by_pieces) => panic!("{whole:?} or {by_pieces:?}"),
    }
}
