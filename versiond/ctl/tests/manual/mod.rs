//! A manual page from a command line: one page with every subcommand, compared with the committed one.

use std::fmt::Write as _;
use std::path::Path;

use clap_mangen::Man;

/// What a page has beyond the command line.
pub struct Page {
    pub command: clap::Command,
    pub section: &'static str,
    pub exit_codes: &'static [(u8, &'static str)],
    /// Headings, each with its entries.
    pub more: &'static [(&'static str, &'static [(&'static str, &'static str)])],
}

/// Compares the page with the committed one, or writes it when `UPDATE` is set.
pub fn compare(page: Page, rewrite: &str) {
    let name = page.command.get_name().to_owned();
    let file = format!("{}/docs/man/{name}.{}", root().display(), page.section);
    let text = render(page);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(text == committed, "{file} is not what the command line says now; run: {rewrite}");
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|folder| folder.join("Cargo.lock").exists()).unwrap()
}

fn render(Page { command, section, exit_codes, more }: Page) -> String {
    let name = command.get_name().to_owned();
    let subcommands: Vec<clap::Command> = command.get_subcommands().filter(|it| !it.is_hide_set()).cloned().collect();
    let version = command.get_version().unwrap_or_default().to_owned();
    // The exit codes have a section of their own.
    let man = Man::new(command.after_help(""))
        .section(section)
        .source(format!("{name} {version}"))
        .manual("versiond")
        .date("");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut text = String::from_utf8(page).unwrap();
    if !subcommands.is_empty() {
        text.push_str(".SH COMMANDS\n");
    }
    for subcommand in subcommands {
        described(&mut text, &name, subcommand);
    }
    text.push_str(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in exit_codes {
        write!(text, ".TP\n\\fB{code}\\fR\n{}\n", escaped(meaning)).unwrap();
    }
    for (heading, entries) in more {
        writeln!(text, ".SH \"{heading}\"").unwrap();
        for (entry, meaning) in *entries {
            write!(text, ".TP\n\\fB{}\\fR\n{}\n", escaped(entry), escaped(meaning)).unwrap();
        }
    }
    text
}

fn described(text: &mut String, name: &str, subcommand: clap::Command) {
    let mut command = subcommand.bin_name(String::new());
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
    let title = format!("{name} {} {usage}", command.get_name());
    writeln!(text, ".SS \"{}\"", escaped(title.trim_end())).unwrap();
    writeln!(text, "{}", escaped(&command.get_about().map(ToString::to_string).unwrap_or_default())).unwrap();
    for argument in command.get_arguments().filter(|it| it.get_id() != "help" && !it.is_hide_set()) {
        let values: Vec<String> =
            argument.get_value_names().into_iter().flatten().map(|value| format!(" {value}")).collect();
        let takes = argument.get_action().takes_values() || argument.is_positional();
        let values = if takes { values.concat() } else { String::new() };
        let short = argument.get_short().map(|short| format!("-{short}"));
        let long = argument.get_long().map(|long| format!("--{long}"));
        let names: Vec<String> = [short, long].into_iter().flatten().collect();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default =
            if takes && !default.is_empty() { format!(" [default: {}]", default.join(" ")) } else { String::new() };
        let entry = format!("{}{values}", names.join(", "));
        write!(text, ".TP\n\\fB{}\\fR\n{}\n", escaped(entry.trim()), escaped(&format!("{help}{default}"))).unwrap();
    }
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        described(text, &format!("{name} {}", command.get_name()), below.clone());
    }
}

/// A line cannot begin with a dot or a quote, and a dash is to stay one.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('\n', " ");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
