//! A guide names every key of a configuration, and no others.

use std::collections::BTreeSet;

/// The keys of the file, as the guide writes them: the last structure's name and the field's.
fn keys(shape: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let (mut section, mut renamed): (String, Option<String>) = (String::new(), None);
    for line in shape.lines().map(str::trim) {
        let bare = line.trim_start_matches("pub(super) ");
        if let Some(name) = bare.strip_prefix("struct ").and_then(|rest| rest.strip_suffix(" {")) {
            section = name.trim_end_matches("Table").to_lowercase();
        } else if line == "}" {
            section.clear();
        } else if section.is_empty() {
            continue;
        } else if let Some(name) = line.strip_prefix("#[serde(rename = \"") {
            renamed = name.split('"').next().map(str::to_owned);
        } else if let Some((field, kind)) = bare.split_once(": ") {
            let key = renamed.take().unwrap_or_else(|| field.to_owned());
            // What the design names and this release does not have is refused, and sections are no keys. What
            // stands in for a description is a part of the service.
            if !kind.starts_with("Later") && section != "file" && section != "standin" && field.chars().all(is_name) {
                keys.insert(format!("{section}.{key}"));
            }
        }
    }
    keys
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// The first cell of every row whose first cell is a key.
fn in_guide(guide: &str) -> BTreeSet<String> {
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.filter(|name| name.contains('.') && name.chars().all(|c| is_name(c) || c == '.')).map(str::to_owned).collect()
}

/// Between the structures of a file and a guide; `least` keys there are, or the search is broken.
pub(crate) fn differences(shape: &str, (path, guide): (&str, &str), least: usize) -> Vec<String> {
    let (shape, told) = (keys(shape), in_guide(guide));
    assert!(shape.len() >= least, "the search is broken: {shape:?}");
    let lacking = shape.difference(&told).map(|key| format!("{path} does not name the key {key}"));
    let foreign = told.difference(&shape).map(|key| format!("{path} names the key {key}: there is none"));
    lacking.chain(foreign).collect()
}

#[test]
fn a_key_is_named_by_its_section_and_what_is_not_available_is_none() {
    let shape = "pub(super) struct Host {\n    pub(super) id: Value,\n    #[serde(rename = \"match\")]\n    pub(super) pattern: Value,\n    #[serde(rename = \"peers\")]\n    _peers: Later,\n}\n";
    assert_eq!(keys(shape), BTreeSet::from(["host.id".to_owned(), "host.match".to_owned()]));
    let table = "struct PoolTable {\n    dns: Value,\n}\nfn pool() {\n    let place: Value;\n}\n";
    assert_eq!(keys(table), BTreeSet::from(["pool.dns".to_owned()]));
    let guide = "| `host.id` | it |\n| `other` | `no.key` |\n";
    assert_eq!(in_guide(guide), BTreeSet::from(["host.id".to_owned()]));
}
