//! Templates: text in which the supervisor fills in what it decides at each start.
//!
//! A word in braces is a placeholder: `{port}`, `{data_dir}`, `{version}`, `{generation}`, `{files}` (the folder
//! of the service's rendered files) and `{file:NAME}` (one of them). `{{port}}` stands for the literal `{port}`;
//! braces around anything but a word are text, so that configuration files keep theirs. An unknown word is an
//! error: a misspelt placeholder must not reach a program. Must not live here: where a template comes from.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Port,
    DataDir,
    Version,
    Generation,
    Files,
    File(String),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{{{word}}} is no placeholder: there are {{port}}, {{data_dir}}, {{version}}, {{generation}}, {{files}} and \
     {{file:NAME}}; write {{{{{word}}}}} for the literal text"
)]
pub struct TemplateError {
    word: String,
}

/// What is filled in.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'f> {
    pub port: u16,
    pub data_dir: &'f Path,
    pub version: &'f str,
    pub generation: u64,
    /// The folder of the rendered files.
    pub files: &'f Path,
}

impl Template {
    /// Text without placeholders, whatever braces it holds.
    #[must_use]
    pub fn literal(text: &str) -> Template {
        Template { source: text.to_owned(), parts: vec![Part::Text(text.to_owned())] }
    }

    /// The text with everything filled in.
    #[must_use]
    pub fn fill(&self, filling: &Filling<'_>) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Port => filling.port.to_string(),
            Part::DataDir => filling.data_dir.to_string_lossy().into_owned(),
            Part::Version => filling.version.to_owned(),
            Part::Generation => filling.generation.to_string(),
            Part::Files => filling.files.to_string_lossy().into_owned(),
            Part::File(name) => filling.files.join(name).to_string_lossy().into_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// Whether every generation gets the same text.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether it holds the port.
    #[must_use]
    pub fn has_port(&self) -> bool {
        self.parts.contains(&Part::Port)
    }

    /// The rendered files that it names.
    #[must_use]
    pub fn files(&self) -> BTreeSet<String> {
        let name = |part: &Part| if let Part::File(name) = part { Some(name.clone()) } else { None };
        self.parts.iter().filter_map(name).collect()
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            Some(_) | None => self.parts.push(Part::Text(text.to_owned())),
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Template, TemplateError> {
        let mut template = Template { source: text.to_owned(), parts: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            template.text(&rest[..at]);
            rest = &rest[at..];
            if let Some((word, after)) = word(rest.strip_prefix('{').unwrap_or_default()).filter(|_| is_doubled(rest)) {
                template.text(&format!("{{{word}}}"));
                rest = after.strip_prefix('}').unwrap_or(after);
            } else if let Some((word, after)) = word(rest) {
                template.parts.push(placeholder(word)?);
                rest = after;
            } else {
                template.text("{");
                rest = &rest[1..];
            }
        }
        template.text(rest);
        Ok(template)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The word in the braces that `text` begins with, and what follows them.
fn word(text: &str) -> Option<(&str, &str)> {
    let (inner, after) = text.strip_prefix('{')?.split_once('}')?;
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_file = inner.strip_prefix("file:").is_some_and(|name| !name.is_empty() && !name.contains(['{', '\n']));
    (is_word(inner) || is_file).then_some((inner, after))
}

/// Whether `text` begins with a word in two pairs of braces.
fn is_doubled(text: &str) -> bool {
    text.strip_prefix('{').and_then(word).is_some_and(|(_, after)| after.starts_with('}'))
}

fn placeholder(word: &str) -> Result<Part, TemplateError> {
    match word {
        "port" => Ok(Part::Port),
        "data_dir" => Ok(Part::DataDir),
        "version" => Ok(Part::Version),
        "generation" => Ok(Part::Generation),
        "files" => Ok(Part::Files),
        _ => match word.strip_prefix("file:") {
            Some(name) => Ok(Part::File(name.to_owned())),
            None => Err(TemplateError { word: word.to_owned() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let (data_dir, files) = (Path::new("/data/a"), Path::new("/run/g7"));
        let filling = Filling { port: 20_001, data_dir, version: "v1", generation: 7, files };
        text.parse::<Template>().unwrap().fill(&filling)
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("--port={port}", "--port=20001"),
            ("{data_dir}/{version}.{generation}", "/data/a/v1.7"),
            ("-c {file:nginx.conf} -p {files}", "-c /run/g7/nginx.conf -p /run/g7"),
            ("events { worker_connections 8; }", "events { worker_connections 8; }"),
            ("http {\n  listen {port};\n}", "http {\n  listen 20001;\n}"),
            (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
            ("{{port}} is {port}", "{port} is 20001"),
            ("{{{port}}}", "{{port}}"),
            ("{{file:x}}", "{file:x}"),
            ("{}", "{}"),
            ("{PORT}", "{PORT}"),
            ("{", "{"),
            ("é{port}é", "é20001é"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_word_is_named() {
        for text in ["{prot}", "x {admin} y", "{data_dir}{datadir}"] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(text.contains(&format!("{{{}}}", error.word)), "{text}: {error}");
        }
        assert!("{prot}".parse::<Template>().unwrap_err().to_string().contains("write {{prot}} for"));
    }

    #[test]
    fn a_template_knows_its_files_and_whether_it_is_fixed() {
        let template: Template = "{file:a} {file:b/c} {port}".parse().unwrap();
        assert_eq!(template.files(), BTreeSet::from(["a".to_owned(), "b/c".to_owned()]));
        assert!(!template.is_fixed());
        assert!("{{port}}".parse::<Template>().unwrap().is_fixed());
        assert_eq!(Template::literal("{port}").source(), "{port}");
        assert!(Template::literal("{port}").is_fixed());
    }
}
