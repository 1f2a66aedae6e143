//! A Cosmovisor's folder: what it comes to, and the faults of those who write it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use super::*;
use crate::catalog::source::{KnownHeights, Reader};

const SERVICE: &str = "[service.node]\nargs = [\"start\"]\n";

/// A `DAEMON_HOME`, and a host that follows it.
struct Home {
    _guard: TempDir,
    path: Utf8PathBuf,
    more: String,
    reader: Reader,
    follower: Follower,
}

impl Home {
    /// With a genesis program, and the link to it.
    fn new(more: &str) -> Home {
        let (guard, path) = folder();
        let more = format!("daemon_name = \"noded\"\n{more}");
        let (reader, follower) = Home::begin(&path, &more);
        let home = Home { _guard: guard, path, more, reader, follower };
        std::fs::create_dir_all(home.path.join("home/data")).unwrap();
        home.program("genesis", "genesis");
        home.link("genesis");
        home
    }

    fn begin(path: &Utf8Path, more: &str) -> (Reader, Follower) {
        let config = configured_with(path, &format!("cosmovisor:{path}/home"), more, SERVICE);
        let follower = Follower::open(&config);
        (Reader::new(&config.catalog, follower.kept_snapshot()).unwrap(), follower)
    }

    /// The daemon is started anew.
    fn restart(&mut self) {
        (self.reader, self.follower) = Home::begin(&self.path, &self.more);
    }

    fn at(&self, path: &str) -> Utf8PathBuf {
        self.path.join("home").join(path)
    }

    fn program(&self, folder: &str, text: &str) {
        let bin = self.at(&format!("cosmovisor/{folder}/bin"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("noded"), text).unwrap();
    }

    fn link(&self, to: &str) {
        self.unlink();
        symlink(to, self.at("cosmovisor/current")).unwrap();
    }

    fn unlink(&self) {
        std::fs::remove_file(self.at("cosmovisor/current")).ok();
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.at(path), text).unwrap();
    }

    fn ask_for(&self, name: &str, height: u64, info: &str) {
        self.write("data/upgrade-info.json", &plan(name, height, info));
    }

    /// One reading, with the node's own height where it is known.
    async fn look(&mut self, height: Option<u64>) -> CatalogView {
        let known = KnownHeights { now: height, reached: self.follower.height() };
        let reading = self.reader.read(known).await;
        self.follower.take(reading, height.ok_or(UnknownHeight::NoSource), Tick(1));
        self.follower.view(Tick(1))
    }

    /// The program that is wanted.
    async fn runs(&mut self, height: Option<u64>) -> String {
        let view = self.look(height).await;
        running(&view).unwrap_or_else(|| panic!("{view:?}"))
    }

    /// Every path below the home with what it holds.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.at("")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir_utf8().unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                let content = match (kind.is_dir(), kind.is_symlink()) {
                    (true, _) => {
                        folders.push(entry.path().to_owned());
                        Vec::new()
                    }
                    (false, true) => entry.path().read_link_utf8().unwrap().into_string().into_bytes(),
                    (false, false) => std::fs::read(entry.path()).unwrap(),
                };
                found.insert(entry.path().to_string(), content);
            }
        }
        found
    }
}

fn plan(name: &str, height: u64, info: &str) -> String {
    serde_json::json!({"name": name, "time": "0001-01-01T00:00:00Z", "height": height, "info": info}).to_string()
}

fn intent(view: &CatalogView) -> &versiond_core::catalog::Intent {
    let slots: Vec<_> = view.desired.slots.iter().collect();
    let [(slot, intent)] = slots[..] else { panic!("{view:?}") };
    assert_eq!(slot.to_string(), "node/node");
    intent
}

/// What is wanted: the text of a local program, else its address.
fn running(view: &CatalogView) -> Option<String> {
    let artifact = intent(view).artifact.as_ref()?;
    assert!(artifact.irreversible, "{artifact:?}");
    let url = artifact.urls.first()?;
    Some(match url.strip_prefix("file:") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => url.clone(),
    })
}

fn at_url(address: &str) -> String {
    let url = format!("{address}?checksum=sha256:{}", hash(5));
    serde_json::json!({"binaries": {"any": url}}).to_string()
}

#[tokio::test]
async fn the_program_in_effect_runs_until_the_node_asks_for_the_next_one() {
    let mut home = Home::new("");
    assert_eq!(home.runs(None).await, "genesis");
    home.program("upgrades/v2", "second");
    let before = home.tree();
    assert_eq!(home.runs(None).await, "genesis");
    // The plan is there before its height, as some of its writers have it.
    home.ask_for("v2", 100, "");
    let view = home.look(Some(98)).await;
    assert_eq!(running(&view).as_deref(), Some("genesis"));
    assert_eq!(intent(&view).blocked, Some(Reason::NotYetActive { height: Some(98), activates_at: 100 }));
    assert_eq!(home.runs(Some(100)).await, "second");
    home.restart();
    assert_eq!(running(&home.follower.view(Tick(0))).as_deref(), Some("second"));
    // Nothing of it was written.
    std::fs::remove_file(home.at("data/upgrade-info.json")).unwrap();
    assert_eq!(home.tree(), before);
    assert_eq!(home.runs(None).await, "second");
}

#[tokio::test]
async fn a_node_that_has_stopped_for_its_upgrade_tells_no_height_and_gets_it() {
    let mut home = Home::new("");
    home.program("upgrades/v2", "second");
    assert_eq!(home.runs(Some(99)).await, "genesis");
    home.ask_for("v2", 100, "");
    let view = home.look(None).await;
    assert_eq!((running(&view).as_deref(), intent(&view).since_height), (Some("second"), Some(100)));
}

/// A plan is not written at once, and a torn one is none.
#[tokio::test]
async fn a_torn_plan_is_waited_for_and_a_malformed_one_is_named() {
    let mut home = Home::new("");
    home.program("upgrades/v2", "second");
    home.runs(None).await;
    let whole = plan("v2", 100, "");
    for torn in ["", "{", &whole[..whole.len() - 1]] {
        home.write("data/upgrade-info.json", torn);
        let view = home.look(None).await;
        assert_eq!((running(&view).as_deref(), code(&view)), (Some("genesis"), Some("catalog_unreachable")), "{torn}");
    }
    for wrong in ["[]", "nonsense", &whole.replace("\"v2\"", "\"..\""), &whole.replace("100", "0")] {
        home.write("data/upgrade-info.json", wrong);
        let view = home.look(None).await;
        assert_eq!(running(&view).as_deref(), Some("genesis"), "{wrong}");
        let reason = view.status.reason.unwrap().to_string();
        assert!(reason.contains("data/upgrade-info.json"), "{reason}");
    }
    home.write("data/upgrade-info.json", &whole);
    assert_eq!(home.runs(None).await, "second");
}

/// Who moves the link removes it first; upstream, stopped in between, runs the genesis program again.
#[tokio::test]
async fn a_missing_link_brings_no_earlier_program_back() {
    let mut home = Home::new("");
    home.program("upgrades/v2", "second");
    home.write("cosmovisor/upgrades/v2/upgrade-info.json", &plan("v2", 100, ""));
    home.link("upgrades/v2");
    assert_eq!(home.runs(None).await, "second");
    home.unlink();
    assert_eq!(home.runs(None).await, "second");
    home.link("upgrades/gone");
    assert_eq!(home.runs(None).await, "second");
    home.restart();
    assert_eq!(home.runs(None).await, "second");
    // Nor on a host that has kept nothing: the folders say by which plan they came into effect.
    std::fs::remove_dir_all(home.path.join("state")).unwrap();
    home.program("upgrades/v3", "third, not in effect yet");
    home.unlink();
    home.restart();
    assert_eq!(home.runs(None).await, "second");
    // The plan by which it came into effect is no news.
    home.ask_for("V2", 100, "");
    let view = home.look(None).await;
    assert_eq!((running(&view).as_deref(), intent(&view).since_height), (Some("second"), None));
}

/// A download that was broken off leaves a folder without a program: upstream never looks again.
#[tokio::test]
async fn a_half_filled_folder_is_none() {
    let mut home = Home::new("");
    std::fs::create_dir_all(home.at("cosmovisor/upgrades/v2/bin")).unwrap();
    std::fs::write(home.at("cosmovisor/upgrades/v2/bin/noded.part"), "half").unwrap();
    home.ask_for("v2", 100, &at_url("https://a.example/noded.zip"));
    let view = home.look(None).await;
    assert_eq!(running(&view).as_deref(), Some("https://a.example/noded.zip"));
    assert_eq!(intent(&view).artifact.as_ref().unwrap().entry.as_deref(), Some("noded"));
    // Without a program and without an address what runs goes on, and it says why.
    home.ask_for("v3", 200, "");
    let view = home.look(None).await;
    assert_eq!(running(&view).as_deref(), Some("https://a.example/noded.zip"));
    assert!(
        matches!(&intent(&view).blocked, Some(Reason::Unservable { detail }) if detail.contains("upgrades/v3/bin"))
    );
}

#[tokio::test]
async fn the_info_of_a_plan_may_be_behind_one_more_address() {
    let mut home = Home::new("");
    home.runs(None).await;
    let info = at_url("https://a.example/noded.zip");
    let source = Source::with("not yet").await;
    let sha256 = {
        use sha2::Digest;
        Sha256(sha2::Sha256::digest(info.as_bytes()).into())
    };
    home.ask_for("v2", 100, &format!("{}?checksum=sha256:{sha256}", source.url()));
    let view = home.look(None).await;
    assert_eq!(running(&view).as_deref(), Some("genesis"));
    assert!(matches!(&intent(&view).blocked, Some(Reason::Unservable { detail }) if detail.contains("expected")));
    source.say(ok(&info));
    assert_eq!(home.runs(None).await, "https://a.example/noded.zip");
    // It is known from then on, also over a restart.
    source.stop().await;
    assert_eq!(home.runs(None).await, "https://a.example/noded.zip");
    home.restart();
    assert_eq!(home.runs(None).await, "https://a.example/noded.zip");
}

#[tokio::test]
async fn a_batch_is_staged_ahead_and_each_of_its_plans_waits_for_its_height() {
    let mut home = Home::new("");
    home.program("upgrades/v2", "second");
    home.program("upgrades/v3", "third");
    home.write("data/upgrade-info.json.batch", &format!("[{},{}]", plan("v3", 200, ""), plan("v2", 100, "")));
    let view = home.look(Some(50)).await;
    let staged: Vec<u64> = intent(&view).staged.iter().map(|staged| staged.height).collect();
    assert_eq!((running(&view).as_deref(), staged), (Some("genesis"), vec![100, 200]));
    // A height that is not known brings nothing that nobody has asked for.
    assert_eq!(home.runs(None).await, "genesis");
    assert_eq!(home.runs(Some(100)).await, "second");
    std::fs::remove_file(home.at("data/upgrade-info.json.batch")).unwrap();
    assert_eq!(home.runs(Some(500)).await, "second", "a plan that was called off came into effect");
}

#[tokio::test]
async fn plans_of_skipped_heights_are_not_followed() {
    let mut home = Home::new("skip_upgrades = \"100, 300\"");
    home.program("upgrades/v2", "second");
    home.program("upgrades/v3", "third");
    home.ask_for("v2", 100, "");
    assert_eq!(home.runs(None).await, "genesis");
    assert_eq!(home.runs(Some(150)).await, "genesis");
    home.ask_for("v3", 200, "");
    assert_eq!(home.runs(Some(200)).await, "third");
}

#[tokio::test]
async fn names_are_the_same_in_any_case_and_escaped_in_folders() {
    let mut home = Home::new("");
    home.program("upgrades/v2-big%20one", "second");
    home.ask_for("V2-Big One", 100, "");
    assert_eq!(home.runs(None).await, "second");
}

#[tokio::test]
async fn a_program_replaced_in_its_place_is_another_one_and_a_cosmovisor_that_went_on_is_followed() {
    let mut home = Home::new("");
    let view = home.look(None).await;
    let first = intent(&view).artifact.clone().unwrap();
    home.program("genesis", "genesis, mended");
    let view = home.look(None).await;
    assert!(!intent(&view).artifact.as_ref().unwrap().is_same(&first));
    home.program("upgrades/v2", "second");
    home.ask_for("v2", 100, "");
    assert_eq!(home.runs(None).await, "second");
    home.program("upgrades/v3", "third");
    home.write("cosmovisor/upgrades/v3/upgrade-info.json", &plan("v3", 200, ""));
    home.link("upgrades/v3");
    home.ask_for("v3", 200, "");
    assert_eq!(home.runs(None).await, "third");
}

#[tokio::test]
async fn a_folder_without_anything_in_it_says_so_and_recovers() {
    let mut home = Home::new("");
    std::fs::remove_dir_all(home.at("cosmovisor")).unwrap();
    let view = home.look(None).await;
    assert_eq!((view.is_known, code(&view)), (false, Some("no_catalog")));
    home.program("genesis", "genesis");
    assert_eq!(home.runs(None).await, "genesis");
}
