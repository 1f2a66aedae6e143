//! Who the members of a pool are: from the configuration, from a file, or from DNS.
//!
//! Must not live here: what a listing moves (that is `router-core`).

use std::time::Duration;

use camino::Utf8Path;
use router_core::members::{Listed, Listing};
use tokio::sync::mpsc;

use crate::config::MemberSource;
use crate::dns::Dns;
use crate::keeper::Event;

/// How often DNS is asked, and a file looked at.
const EVERY: Duration = Duration::from_secs(2);

/// What is known without asking anybody.
pub(crate) fn written(source: &MemberSource) -> Option<Listing> {
    match source {
        MemberSource::Hosts(hosts) => Some(Listing::Written(hosts.clone())),
        MemberSource::Dns(_) => None,
        MemberSource::File(path) => read(path).ok(),
    }
}

/// Tells of every change, for as long as somebody listens.
pub(crate) async fn follow(source: MemberSource, tell: mpsc::Sender<Event>) {
    let dns = match &source {
        MemberSource::Dns(source) => Some(Dns::new(source)),
        MemberSource::Hosts(_) | MemberSource::File(_) => None,
    };
    let mut last = written(&source);
    let mut complaint: Option<String> = None;
    loop {
        let listed = match (&source, &dns) {
            (MemberSource::File(path), _) => read(path),
            (MemberSource::Dns(_), Some(Ok(dns))) => dns.ask().await,
            (MemberSource::Dns(_), Some(Err(error))) => Err(error.clone()),
            // They change with the configuration.
            (MemberSource::Hosts(_), _) | (MemberSource::Dns(_), None) => return,
        };
        let listing = match listed {
            Ok(listing) => {
                complaint = None;
                listing
            }
            Err(error) => {
                if complaint.as_ref() != Some(&error) {
                    tracing::warn!(%source, error, "members stay as they were");
                    complaint = Some(error);
                }
                Listing::Failed
            }
        };
        // What DNS leaves out is believed the second time, so that every answer counts.
        let is_news = match (&source, &listing) {
            (MemberSource::Dns(_), Listing::Resolved(_) | Listing::Written(_)) | (_, Listing::Failed) => true,
            (MemberSource::File(_) | MemberSource::Hosts(_), _) => last.as_ref() != Some(&listing),
        };
        if is_news {
            last = Some(listing.clone());
            if tell.send(Event::Listed(listing)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = tell.closed() => return,
        }
    }
}

fn read(path: &Utf8Path) -> Result<Listing, String> {
    let text = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let listed: Vec<Listed> = serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
    Ok(Listing::Written(listed))
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use router_core::placement::Weight;

    use super::*;

    async fn next(events: &mut mpsc::Receiver<Event>) -> Listing {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("in time");
        match event.expect("an event") {
            Event::Listed(listing) => listing,
            Event::Heard(..) | Event::Drain(..) | Event::Undrain(..) | Event::Look(_) => panic!("not a listing"),
        }
    }

    #[tokio::test]
    async fn f58_a_file_that_is_broken_for_a_while_moves_nothing_and_one_that_changes_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("hosts.json")).unwrap();
        std::fs::write(&path, r#"[{"address":"10.0.0.1:8080"}]"#).unwrap();
        let source = MemberSource::File(path.clone());
        assert!(matches!(written(&source), Some(Listing::Written(hosts)) if hosts.len() == 1));
        let (tell, mut events) = mpsc::channel(8);
        let following = tokio::spawn(follow(source, tell));
        std::fs::write(&path, "[").unwrap();
        assert_eq!(next(&mut events).await, Listing::Failed);
        std::fs::write(&path, r#"[{"address":"10.0.0.1:8080"},{"id":"b","address":"10.0.0.2:8080","weight":3}]"#)
            .unwrap();
        loop {
            match next(&mut events).await {
                Listing::Failed => {}
                Listing::Written(hosts) => {
                    assert_eq!((hosts.len(), hosts[1].weight), (2, Weight(3)));
                    break;
                }
                Listing::Resolved(hosts) => panic!("{hosts:?}"),
            }
        }
        drop(events);
        following.await.unwrap();
    }
}
