//! The bytes of a client: whatever they are, and however they are split, the verdict is the same, and what
//! is passed on is what came. The first byte says how they are split.

use router_core::head::{HeadScanner, Step};

/// The bytes that would be passed on, and the steps that are not about a split.
fn follow(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<u8>, Vec<String>) {
    let (mut scanner, mut passed, mut verdicts) = (HeadScanner::new(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let fed = scanner.feed(rest);
            assert!(fed.used <= rest.len(), "it took more than there is");
            match fed.step {
                Step::NeedMore => assert!(fed.used > 0, "it neither takes nor decides"),
                Step::Body => {
                    assert!(fed.used > 0, "it neither takes nor decides");
                    passed.extend_from_slice(&rest[..fed.used]);
                }
                Step::Head(head) => {
                    passed.extend(scanner.take_head());
                    verdicts.push(format!("{head:?}"));
                }
                Step::Waiting => {
                    verdicts.push("waiting".to_owned());
                    scanner.resume();
                }
                Step::Violation(violation) => {
                    verdicts.push(format!("{violation:?}"));
                    return (passed, verdicts);
                }
            }
            rest = &rest[fed.used..];
        }
    }
    (passed, verdicts)
}

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let (whole, verdict) = follow(std::iter::once(bytes.to_vec()));
    let (split, same) = follow(bytes.chunks(usize::from(*size).max(1)).map(<[u8]>::to_vec));
    assert_eq!(verdict, same, "the verdict depends on how the bytes are split");
    // Of a body that is refused, the pieces before the refusal may be on their way.
    assert!(split.starts_with(&whole), "what is passed on depends on how the bytes are split");
}
