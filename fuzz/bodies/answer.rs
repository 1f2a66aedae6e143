//! The head of a child's response: a whole one is found once, wherever the input ends behind it, and no shorter
//! input is one. The first byte says whether the request was a HEAD.

#[path = "../../router/dataplane/src/upstream/answer.rs"]
mod head;

use head::{AnswerFraming, parse};

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    let Some((first, input)) = data.split_first() else { return };
    let to_head = first % 2 == 1;
    let Ok(Some(head)) = parse(input, to_head) else { return };
    assert!(head.used <= input.len(), "it took more than there is");
    let again = parse(&input[..head.used], to_head).ok().flatten().expect("the same head");
    assert_eq!((again.used, again.framing, again.keep_alive), (head.used, head.framing, head.keep_alive));
    assert!(!matches!(parse(&input[..head.used - 1], to_head), Ok(Some(_))), "a shorter input is a head too");
    assert!(!to_head || head.framing == AnswerFraming::None, "a response to HEAD has no body");
    assert!(!(head.keep_alive && head.framing == AnswerFraming::UntilClose), "its end is the connection's");
    assert!(head.parts.headers.get_all("content-length").iter().count() <= 1, "two lengths go on");
}
