//! Upgrade plans as a chain's node writes them, and the folder that a Cosmovisor works in, as a document.
//!
//! A plan is one release of a program that has no version names: from its height on. [`Snapshot`] is what
//! the shell found in such a folder, together with what the node has asked for before, since the folder
//! holds the latest plan alone. Must not live here: files, and the address that a plan's info may be behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use supervisor_protocol::Sha256;

use super::checksum;
use super::json::{At, Json};
use super::parse::{CatalogError, ParseContext};
use super::reader::{planned, reachable, unservable};
use super::{Artifact, Catalog, Release, Releases};

/// The `time` of a plan that goes by height.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// The longest name of a plan.
const MAX_NAME: usize = 140;
/// The platform of a binary that runs anywhere.
const ANY: &str = "any";

/// `upgrade-info.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub name: String,
    pub height: u64,
    /// JSON with the binaries, the address of such JSON, or nothing.
    pub info: String,
}

/// Why a file holds no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The node does not write it at once.
    #[error("it is empty or not written to its end yet")]
    Torn,
    #[error("it is no upgrade plan")]
    Malformed(#[source] CatalogError),
}

/// What the info of a plan comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Info {
    /// Addresses by platform.
    Binaries(BTreeMap<String, String>),
    /// The binaries are told there; the bytes must have this hash, where there is one.
    Elsewhere { url: String, sha256: Option<Sha256> },
    /// The program must be in its folder.
    Nothing,
}

/// A program that lies in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    pub path: String,
    pub sha256: Sha256,
    pub size: u64,
}

/// One plan, with what was found for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    pub name: String,
    pub height: u64,
    /// Its program, where an operator has put it into its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// Its info, or what its info's address said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub info: String,
    /// Why its info could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a Cosmovisor's folder comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The program's file name.
    pub daemon: String,
    /// What the folder says is in effect, whatever has been asked for since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Local>,
    /// The height of its plan, where the folder says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_height: Option<u64>,
    #[serde(default)]
    pub upgrades: Vec<Upgrade>,
    /// The greatest height at which the node has asked for an upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    cosmovisor: Snapshot,
}

impl Snapshot {
    /// With the upgrades of before that have been reached and that the folder does not name any more: its
    /// plan file holds one plan, and its link is not moved by whoever only reads it. What the folder itself
    /// says to be in effect is behind none of them.
    #[must_use]
    pub fn after(mut self, previous: Option<&Snapshot>, reached: Option<u64>) -> Snapshot {
        self.reached = self.reached.max(previous.and_then(|previous| previous.reached));
        let reached = self.reached.max(reached);
        let replaced = |old: &Upgrade| {
            self.upgrades.iter().any(|new| new.height == old.height || new.name.eq_ignore_ascii_case(&old.name))
        };
        let before = previous.into_iter().flat_map(|previous| &previous.upgrades);
        let mut kept: Vec<Upgrade> =
            before.filter(|old| Some(old.height) <= reached && !replaced(old)).cloned().collect();
        self.upgrades.append(&mut kept);
        let base_height = self.base_height;
        self.upgrades.retain(|upgrade| Some(upgrade.height) > base_height);
        self.upgrades.sort_by_key(|upgrade| upgrade.height);
        self
    }

    /// The document that [`super::parse`] reads.
    pub fn to_document(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Document { cosmovisor: self.clone() })
    }

    /// What was written by [`Snapshot::to_document`]; `None` for any other document.
    #[must_use]
    pub fn of_document(bytes: &[u8]) -> Option<Snapshot> {
        serde_json::from_slice(bytes).ok().map(|Document { cosmovisor }| cosmovisor)
    }
}

/// Reads `upgrade-info.json`.
pub fn read_plan(bytes: &[u8]) -> Result<Plan, PlanError> {
    let json = whole(bytes)?;
    plan_of(&At::root(&json)).map_err(PlanError::Malformed)
}

/// Reads `upgrade-info.json.batch`.
pub fn read_batch(bytes: &[u8]) -> Result<Vec<Plan>, PlanError> {
    let json = whole(bytes)?;
    let plans = At::root(&json).list().map_err(PlanError::Malformed)?;
    plans.iter().map(plan_of).collect::<Result<_, _>>().map_err(PlanError::Malformed)
}

/// Reads the info of a plan, or what its address answered.
pub fn read_info(info: &str) -> Result<Info, CatalogError> {
    let info = info.trim();
    if info.is_empty() {
        return Ok(Info::Nothing);
    }
    if !info.starts_with('{') {
        let shape = |detail: String| CatalogError::Shape { path: "info".to_owned(), detail };
        if !info.contains("://") || info.contains(char::is_whitespace) {
            return Err(shape("neither JSON with binaries nor an address".to_owned()));
        }
        let split = checksum::split(info).map_err(|error| shape(error.to_string()))?;
        return Ok(Info::Elsewhere { url: split.url, sha256: split.sha256 });
    }
    let json = Json::read(info.as_bytes())?;
    let root = At::root(&json);
    let mut binaries = BTreeMap::new();
    for (platform, url) in root.map()?.get("binaries").ok_or_else(|| root.missing("binaries"))?.map()? {
        binaries.insert(platform.to_owned(), url.text()?.to_owned());
    }
    Ok(Info::Binaries(binaries))
}

/// The name of an upgrade's folder: in lower case, then escaped as a segment of an address.
#[must_use]
pub fn folder_of(name: &str) -> String {
    let mut folder = String::new();
    for byte in name.to_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            folder.push(char::from(byte));
        } else {
            folder.push_str(&format!("%{byte:02X}"));
        }
    }
    folder
}

/// A document that is one plan.
pub(super) fn single(root: &At<'_>, context: &ParseContext) -> Result<Catalog, CatalogError> {
    of_plans(vec![(plan_of(root)?, root.path.clone())], context)
}

/// A document that is a list of plans.
pub(super) fn batch(root: &At<'_>, context: &ParseContext) -> Result<Catalog, CatalogError> {
    let plans = root.list()?;
    if plans.is_empty() {
        return Err(root.shape("a list of upgrade plans needs at least one"));
    }
    let plans = plans.iter().map(|at| Ok((plan_of(at)?, at.path.clone())));
    of_plans(plans.collect::<Result<_, _>>()?, context)
}

fn of_plans(plans: Vec<(Plan, String)>, context: &ParseContext) -> Result<Catalog, CatalogError> {
    let upgrades = plans
        .into_iter()
        .map(|(Plan { name, height, info }, path)| (Upgrade { name, height, local: None, info, problem: None }, path));
    catalog(None, upgrades.collect(), None, context)
}

/// A document that [`Snapshot::to_document`] wrote.
pub(super) fn snapshot(bytes: &[u8], context: &ParseContext) -> Result<Catalog, CatalogError> {
    let document = serde_json::from_slice(bytes);
    let Document { cosmovisor: Snapshot { daemon, base, upgrades, reached, .. } } =
        document.map_err(|error| CatalogError::Shape { path: "cosmovisor".to_owned(), detail: error.to_string() })?;
    let path = |index| format!("cosmovisor.upgrades[{index}]");
    let upgrades = upgrades.into_iter().enumerate().map(|(index, upgrade)| (upgrade, path(index)));
    let mut catalog = catalog(base.map(|base| local(base, context)), upgrades.collect(), Some(&daemon), context)?;
    catalog.reached = reached;
    Ok(catalog)
}

fn catalog(
    base: Option<Release>,
    upgrades: Vec<(Upgrade, String)>,
    daemon: Option<&str>,
    context: &ParseContext,
) -> Result<Catalog, CatalogError> {
    let service = context.service.clone().ok_or(CatalogError::NoService)?;
    let mut by_height: BTreeMap<Option<u64>, Release> = base.map(|base| (None, base)).into_iter().collect();
    for (upgrade, path) in upgrades {
        let height = upgrade.height;
        if by_height.insert(Some(height), release(upgrade, daemon, context)).is_some() {
            return Err(CatalogError::Duplicate { path, name: format!("height {height}") });
        }
    }
    let nothing = || CatalogError::Shape {
        path: "cosmovisor".to_owned(),
        detail: "neither a program in genesis or current, nor a plan".to_owned(),
    };
    let releases = Releases::new(by_height).ok_or_else(nothing)?;
    let entries = planned(&service, releases, context)?;
    Ok(Catalog { services: BTreeMap::from([(service, entries)]), ..Catalog::default() })
}

/// What an upgrade comes to here. What its folder holds comes before what its plan names.
fn release(upgrade: Upgrade, daemon: Option<&str>, context: &ParseContext) -> Release {
    let blocked = |detail: String| Release::Blocked(unservable(format!("the plan {:?}: {detail}", upgrade.name)));
    if let Some(found) = upgrade.local {
        return local(found, context);
    }
    if let Some(problem) = &upgrade.problem {
        return blocked(problem.clone());
    }
    let binaries = match read_info(&upgrade.info) {
        Ok(Info::Binaries(binaries)) => binaries,
        Ok(Info::Elsewhere { .. }) => {
            return blocked("its info is behind another address, which only a cosmovisor: source follows".to_owned());
        }
        Ok(Info::Nothing) => {
            let folder = folder_of(&upgrade.name);
            return blocked(format!("it names no binary, and there is none in upgrades/{folder}/bin"));
        }
        Err(error) => return blocked(format!("its info: {error}")),
    };
    let Some(url) = binaries.get(&context.platform).or_else(|| binaries.get(ANY)) else {
        return blocked(format!("no binary for {}", context.platform));
    };
    match checksum::split(url) {
        Ok(checksum::Split { url, sha256: Some(sha256) }) => reachable(
            Artifact { sha256, urls: vec![url], size: None, entry: daemon.map(str::to_owned), irreversible: true },
            context.urls,
        ),
        Ok(checksum::Split { sha256: None, .. }) => blocked("its binary has no checksum=sha256:".to_owned()),
        Err(error) => blocked(format!("its binary: {error}")),
    }
}

fn local(Local { path, sha256, size }: Local, context: &ParseContext) -> Release {
    let urls = vec![format!("file:{path}")];
    reachable(Artifact { sha256, urls, size: Some(size), entry: None, irreversible: true }, context.urls)
}

fn whole(bytes: &[u8]) -> Result<Json, PlanError> {
    match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        Err(error) if error.is_eof() => Err(PlanError::Torn),
        // What was reserved and not yet written reads as zeros.
        Err(_) if bytes.iter().all(|byte| *byte == 0) => Err(PlanError::Torn),
        Ok(_) | Err(_) => Json::read(bytes).map_err(PlanError::Malformed),
    }
}

/// Other fields than these are not ours to judge.
fn plan_of(at: &At<'_>) -> Result<Plan, CatalogError> {
    let fields = at.map()?;
    let field = |key: &str| fields.get(key).ok_or_else(|| at.missing(key));
    let name = field("name")?;
    let text = name.text()?;
    if text.is_empty() || text.len() > MAX_NAME || [".", ".."].contains(&text) || text.contains(char::is_control) {
        return Err(name.shape(format!("a plan's name has 1 to {MAX_NAME} characters and is no relative folder")));
    }
    let height = field("height")?;
    let number = match height.json {
        // As protobuf writes a 64-bit number in JSON.
        Json::Text(text) => text.parse().map_err(|_| height.shape("expected a height"))?,
        Json::Null | Json::Bool | Json::Number(_) | Json::OtherNumber | Json::List(_) | Json::Map(_) => {
            height.number()?
        }
    };
    if number == 0 {
        return Err(height.shape("a plan's height is above zero"));
    }
    if let Some(time) = fields.get("time").filter(|time| !matches!(time.json, Json::Null))
        && time.text()? != NO_TIME
    {
        return Err(time.shape("a plan goes by height, not by time"));
    }
    let info = fields.get("info").map(At::text).transpose()?.unwrap_or_default();
    Ok(Plan { name: text.to_owned(), height: number, info: info.to_owned() })
}
