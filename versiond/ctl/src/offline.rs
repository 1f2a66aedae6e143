//! `versionctl catalog check --offline`: what can be said of a document where no daemon is asked, by the parser
//! that every daemon reads it with, and what can not.
//!
//! Must not live here: any rule for documents (those are `versiond-core`'s).

use serde_json::json;
use supervisor_protocol::catalog::{CatalogCheck, CheckDocument};
use supervisor_protocol::error::chain;
use supervisor_protocol::{ServiceName, Tick};
use versiond_core::catalog::{Desired, PLATFORM, Removals, Tracker, TrustKey, check, doubts, parse_anywhere};

use crate::catalog::render_check;
use crate::failure::Failure;
use crate::text::{out, out_json};

/// What no document says of itself.
const NOT_CHECKED: [&str; 2] = [
    "which addresses a host may reach: its address rules",
    "what a host makes of it: its services and routes, what is in effect there, earlier revisions, overrides",
];
const SIGNATURE: &str = "the signature: no --trust-key is given";

#[derive(Debug, clap::Args)]
pub(crate) struct Offline {
    /// Check a file without a daemon, as a first document: its syntax, names, hashes and caps, and nothing that a
    /// host decides. Says what was not checked.
    #[arg(long, conflicts_with = "against")]
    offline: bool,
    /// The service of a document that names none, as an upstream list or an upgrade plan.
    #[arg(long, requires = "offline", value_name = "NAME", value_parser = service)]
    service: Option<ServiceName>,
    /// The platform whose artifacts are looked at.
    #[arg(long, requires = "offline", default_value = PLATFORM)]
    platform: String,
    /// The minisign public key that must have signed it, in FILE.minisig.
    #[arg(long, requires = "offline", value_name = "KEY")]
    trust_key: Option<TrustKey>,
}

impl Offline {
    pub(crate) fn is_asked_for(&self) -> bool {
        self.offline
    }

    pub(crate) fn run(&self, document: CheckDocument, path: &str, as_json: bool) -> Result<(), Failure> {
        let (text, signature) = match document {
            CheckDocument::Text { text, signature } => (text, signature),
            CheckDocument::Url { .. } => {
                return Err(Failure::Usage("--offline checks a file; an address is read by the daemon"));
            }
        };
        let path = path.to_owned();
        if let Some(key) = &self.trust_key {
            let Some(signature) = signature else { return Err(Failure::Unsigned { path }) };
            let verified = key.verify(text.as_bytes(), signature.as_bytes());
            verified.map_err(|source| Failure::NotSigned { path: path.clone(), source })?;
        }
        let document = parse_anywhere(text.as_bytes(), self.service.clone(), &self.platform)
            .map_err(|source| Failure::RefusedDocument { path: path.clone(), source })?;
        let doubts = doubts(&document);
        let nothing = Tracker::new(Removals::Follow, true);
        let mut checked = check(document, &nothing, &Desired::default(), Tick::ZERO)
            .map_err(|source| Failure::NotFollowed { path, source })?;
        checked.warnings.extend(doubts);
        let not_checked = self.not_checked();
        if as_json {
            out_json(&json!({"check": checked, "not_checked": not_checked}));
        } else {
            out(&render(&checked, &not_checked));
        }
        Ok(())
    }

    fn not_checked(&self) -> Vec<&'static str> {
        NOT_CHECKED.into_iter().chain(self.trust_key.is_none().then_some(SIGNATURE)).collect()
    }
}

fn render(checked: &CatalogCheck, not_checked: &[&str]) -> String {
    not_checked.iter().fold(render_check(checked), |text, what| format!("{text}not checked: {what}\n"))
}

fn service(text: &str) -> Result<ServiceName, String> {
    // The command line shows one line, and the cause belongs into it.
    ServiceName::new(text).map_err(|error| chain(&error))
}
