//! The text of a configuration file, and behind a line of `---` an environment: nothing panics, each refusal has a
//! text, and one about a line of the file names the file.

use camino::Utf8Path;
use versiond::config::{Env, parse};

/// Keys whose values are looked at on the disk: whatever lies there is not the parser's.
const TOUCH_THE_DISK: [&str; 6] = ["env_file", "command", "source", "template", "file", "token"];

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once("\n---\n").unwrap_or((text, ""));
    let touches = |text: &str| TOUCH_THE_DISK.iter().any(|key| text.contains(key));
    if touches(&file.replace("[catalog]\nsource = \"https:", "")) {
        return;
    }
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let env: Env = variables
        .filter(|(name, _)| !name.ends_with("_FILE") && !name.starts_with("VERSIOND_OVERRIDE"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match parse(Utf8Path::new("fuzzed.toml"), file, &env) {
        Ok(config) => {
            for setting in &config.settings {
                assert!(!setting.key.is_empty(), "a setting without a key");
            }
            let rows = config.timing.rows();
            assert!(rows.iter().all(|row| row.value != "0s"), "a duration of zero: {rows:?}");
        }
        Err(error) => assert!(!versiond::config::chain(&error).trim().is_empty(), "a refusal without a text"),
    }
}
