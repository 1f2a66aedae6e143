//! What is counted of fetches.

use super::mirror::Mirror;
use super::*;
use crate::metrics::{Fetched, Fetches};

/// Each attempt is counted once, and what needs none is not; bytes are those that came over the line.
#[tokio::test]
async fn a_fetch_is_counted_by_what_came_of_it_and_a_pause_is_none() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let fetches = Fetches::default();
    let store = open(&folder).counted_by(fetches.clone());
    let good = artifact(b"these bytes", &[mirror.body("/good", b"these bytes")]);
    let other = artifact(b"those bytes", &[mirror.body("/other", b"no such bytes")]);
    let gone = artifact(b"gone", &[format!("http://{}/nothing", mirror.address)]);
    let abroad = artifact(b"abroad", &["http://192.168.1.1/a".to_owned()]);
    for _ in 0..2 {
        get(&store, &good, None).await.unwrap();
        for wanted in [&other, &gone, &abroad] {
            get(&store, wanted, None).await.unwrap_err();
        }
    }
    let counts = [Fetched::Ok, Fetched::HashMismatch, Fetched::Failed, Fetched::Refused].map(|it| fetches.count(it));
    assert_eq!(counts, [1, 1, 1, 1]);
    assert_eq!(fetches.bytes(), 11 + 13);
    assert_eq!(mirror.requests(), 3);
}
