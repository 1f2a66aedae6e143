//! The rules themselves, over text alone, each with a test that it can be broken.

use std::collections::BTreeSet;

/// The part of a manifest that the rules look at.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) lints: bool,
    dependencies: Vec<String>,
    /// Of tests and build scripts.
    others: Vec<String>,
}

/// One Rust file, by its path below the root.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

const RUNTIME_OR_FILES: [&str; 14] = [
    "tokio",
    "tokio-util",
    "async-std",
    "smol",
    "hyper",
    "nix",
    "rustix",
    "libc",
    "tempfile",
    "walkdir",
    "fs-err",
    "memmap2",
    "rand",
    "getrandom",
];
const HEAVY: [&str; 4] = ["sqlx", "async-nats", "redis", "cosmrs"];
const LONGEST: usize = 500;
/// The numbers of the failure modes: F01 to this.
const FAILURE_MODES: u32 = 71;
/// How many failure modes one test may own.
const OWNED: usize = 4;

impl Manifest {
    pub(crate) fn parse(folder: &str, text: &str) -> Self {
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{folder}: {error}"));
        let names = |of: &toml::Table, keys: &[&str]| -> Vec<String> {
            keys.iter().filter_map(|key| of.get(*key)?.as_table()).flat_map(|table| table.keys().cloned()).collect()
        };
        let mut dependencies = names(&table, &["dependencies"]);
        if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
            let per_target = targets.values().filter_map(toml::Value::as_table);
            dependencies.extend(per_target.flat_map(|target| names(target, &["dependencies"])));
        }
        let lints = table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        Manifest {
            folder: folder.to_owned(),
            name: table["package"]["name"].as_str().unwrap_or_default().to_owned(),
            lints: lints == Some(true),
            dependencies,
            others: names(&table, &["dev-dependencies", "build-dependencies"]),
        }
    }
}

pub(crate) fn is_core(path: &str) -> bool {
    path.split('/').skip(1).take(2).any(|folder| folder == "core")
}

/// Who may depend on whom. `workspace` holds the names of all packages of the house.
pub(crate) fn dependencies(manifest: &Manifest, workspace: &BTreeSet<&str>) -> Vec<String> {
    let Manifest { folder, dependencies, others, .. } = manifest;
    let mut found = Vec::new();
    let mut refuse = |name: &str, why: &str| found.push(format!("{folder} depends on {name}: {why}"));
    let everything = || dependencies.iter().chain(others).map(String::as_str);
    for name in dependencies.iter().map(String::as_str) {
        let ours = workspace.contains(name);
        if folder == "supervisor-protocol" && ours {
            refuse(name, "the contract depends on no crate of the house");
        }
        if is_core(folder) && ours && name != "supervisor-protocol" {
            refuse(name, "a core depends on the contract alone");
        }
        if is_core(folder) && RUNTIME_OR_FILES.contains(&name) {
            refuse(name, "a core has no runtime, no files, no randomness");
        }
    }
    for name in everything() {
        if folder.starts_with("router") && (name.starts_with("versiond") || name == "versionctl") {
            refuse(name, "the router knows nothing of versiond");
        }
        if folder.starts_with("children") && workspace.contains(name) && name.starts_with("versiond") {
            refuse(name, "children know nothing of versiond but the contract");
        }
        if HEAVY.contains(&name) && !folder.starts_with("children") && !folder.starts_with("tests") {
            refuse(name, "heavy dependencies live under children/ and tests/ alone");
        }
    }
    found
}

/// What a pure core may not do.
pub(crate) fn purity(source: &Source) -> Vec<String> {
    const FORBIDDEN: [&str; 10] = [
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::process",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "tokio",
        "std::env::var",
    ];
    let mut found = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        let hits = FORBIDDEN.iter().filter(|word| code.contains(**word));
        found.extend(hits.map(|word| format!("{}:{number}: {word} in a pure core", source.path)));
    }
    // Tests of a core may read their golden files.
    if source.path.contains("/tests/") || source.path.ends_with("tests.rs") { Vec::new() } else { found }
}

pub(crate) fn length(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > LONGEST).then(|| format!("{}: {lines} lines, at most {LONGEST}", source.path))
}

pub(crate) fn module_docs(source: &Source) -> Option<String> {
    let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    // The unit tests of a file, put beside it: the name says it.
    let beside = source.path.ends_with("/tests.rs") || source.path.ends_with("_tests.rs");
    let documented = beside || first.starts_with("//!") || first.starts_with("#![doc");
    (!documented).then(|| format!("{}: does not say what lives in it", source.path))
}

pub(crate) fn ignored(source: &Source) -> Vec<String> {
    let is_ignored = |line: &str| line.trim_start().starts_with(concat!("#[", "ignore"));
    let lines = (1..).zip(source.text.lines()).filter(|(_, line)| is_ignored(line));
    lines.map(|(number, _)| format!("{}:{number}: a test that does not run", source.path)).collect()
}

/// The functions that carry a test attribute, and the stories that a macro makes tests of.
pub(crate) fn tests_in(text: &str) -> Vec<String> {
    let mut pending = false;
    let mut found = Vec::new();
    let mut in_stories = false;
    for line in text.lines().map(str::trim) {
        in_stories = (in_stories && line != "}") || line == "stories! {";
        if in_stories && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !line.is_empty() {
            found.push(line.to_owned());
        }
        // `#[test]`, `#[tokio::test]`, `#[test_case(…)]`, and what the macro of proptest wraps.
        pending |= line.starts_with("#[") && line.contains("test");
        let Some(name) = function(line) else { continue };
        if std::mem::take(&mut pending) {
            found.push(name.to_owned());
        }
    }
    found
}

fn function(line: &str) -> Option<&str> {
    let words = ["pub ", "async ", "const "];
    let line = words.iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    let rest = line.strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

/// `f07_f08_what_is_asserted` → 7, 8.
fn numbers(name: &str) -> Vec<u32> {
    let number = |part: &str| {
        let digits = part.strip_prefix('f')?;
        (digits.len() == 2).then(|| digits.parse().ok()).flatten()
    };
    name.split('_').map_while(number).collect()
}

pub(crate) fn failure_modes(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for name in source.text.lines().filter_map(|line| function(line.trim())) {
        let numbers = numbers(name);
        if numbers.len() > OWNED {
            found.push(format!("{}: {name} owns {} failure modes, at most {OWNED}", source.path, numbers.len()));
        }
        for number in numbers.into_iter().filter(|number| !(1..=FAILURE_MODES).contains(number)) {
            found.push(format!("{}: {name} names F{number:02}, which does not exist", source.path));
        }
    }
    found
}

/// Each line that marks a promise as kept, or kept in part, must name, in backticks, a test that exists, and
/// only such.
pub(crate) fn promises(specification: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(specification.lines()) {
        let Some(state) = ["kept", "in part"].into_iter().find(|state| line.contains(&format!("*{state}*"))) else {
            continue;
        };
        if !line.trim_start().starts_with(['|', '-', '*', 'P']) {
            continue;
        }
        let quoted = line.split('`').skip(1).step_by(2);
        let names: Vec<&str> =
            quoted.filter_map(|text| text.rsplit("::").next()).filter(|name| is_test(name)).collect();
        if names.is_empty() {
            found.push(format!("SPECIFICATION.md:{number}: {state}, but by no test"));
        }
        for name in names.into_iter().filter(|name| !tests.contains(*name)) {
            found.push(format!("SPECIFICATION.md:{number}: there is no test {name}"));
        }
    }
    found
}

/// Looks like the name of a test: words in lower case, at least three.
fn is_test(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    plain && name.split('_').filter(|word| !word.is_empty()).count() >= 3
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn a_dependency_that_may_not_be_is_found() {
    let house = BTreeSet::from(["supervisor-protocol", "versiond", "versiond-core", "router-core"]);
    let found = |folder: &str, table: &str, name: &str| {
        let text = format!("[package]\nname = \"x\"\n[{table}]\n{name} = \"1\"\n");
        dependencies(&Manifest::parse(folder, &text), &house).len()
    };
    assert_eq!(found("supervisor-protocol", "dependencies", "router-core"), 1);
    assert_eq!(found("versiond/core", "dependencies", "router-core"), 1);
    assert_eq!(found("versiond/core", "dependencies", "tokio"), 1);
    assert_eq!(found("router/dataplane", "dev-dependencies", "versiond-core"), 1);
    assert_eq!(found("versiond", "dependencies", "sqlx"), 1);
    assert_eq!(found("versiond", "target.'cfg(unix)'.dependencies", "redis"), 1);
    assert_eq!(found("versiond/core", "dependencies", "supervisor-protocol"), 0);
    assert_eq!(found("tests", "dependencies", "sqlx"), 0);
}

#[test]
fn a_core_that_looks_at_the_clock_is_found() {
    assert_eq!(purity(&source("versiond/core/src/a.rs", "let now = Instant::now();")).len(), 1);
    assert_eq!(purity(&source("versiond/core/src/a.rs", "// never Instant::now")).len(), 0);
    assert!(is_core("router/core/src/lib.rs") && !is_core("router/dataplane/src/core.rs"));
}

#[test]
fn a_file_that_is_too_long_or_says_nothing_of_itself_is_found() {
    assert!(length(&source("a.rs", &"x\n".repeat(LONGEST + 1))).is_some());
    assert!(length(&source("a.rs", &"x\n".repeat(LONGEST))).is_none());
    assert!(module_docs(&source("a.rs", "use x;\n//! late")).is_some());
    assert!(module_docs(&source("a.rs", "\n//! early")).is_none());
}

#[test]
fn a_failure_mode_that_does_not_exist_is_found() {
    assert_eq!(failure_modes(&source("a.rs", "fn f72_x() {}")).len(), 1);
    assert_eq!(failure_modes(&source("a.rs", "async fn f01_f02_f03_f04_f05_x() {}")).len(), 1);
    assert_eq!(failure_modes(&source("a.rs", "fn f71_f01_x() {}\nfn f64(x: u8) {}\nfn fold() {}")).len(), 0);
    assert_eq!(ignored(&source("a.rs", &format!("    #[{}]", "ignore"))).len(), 1);
}

#[test]
fn a_promise_kept_by_a_test_that_is_gone_is_found() {
    let tests = tests_in("#[test]\nfn f02_publish_comes_first() {}\nfn helper_of_a_test() {}\n");
    assert_eq!(tests, ["f02_publish_comes_first"]);
    let tests = BTreeSet::from_iter(tests);
    let of = |line: &str| promises(line, &tests).len();
    assert_eq!(of("| P2 | *kept* | `swap::f02_publish_comes_first` |"), 0);
    assert_eq!(of("| P2 | *kept* | `f02_publish_is_gone` |"), 1);
    assert_eq!(of("| P2 | *kept* | |"), 1);
    assert_eq!(of("| P2 | *in part* | one: `f02_publish_comes_first`. Another: not yet |"), 0);
    assert_eq!(of("| P2 | *in part* | one: `f02_publish_comes_first`, `f02_publish_is_gone` |"), 1);
    assert_eq!(of("| P2 | *in part* | |"), 1);
    assert_eq!(of("| P2 | *not yet* | |"), 0);
}
