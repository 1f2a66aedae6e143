//! What children print, as `GET /v1/services/{service}/versions/{version}/logs` gives it: one JSON object
//! a line.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::Generation;

/// One line of a child's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// When it was read, in milliseconds of Unix time.
    pub at_ms: u64,
    pub generation: Generation,
    pub stream: LogStream,
    pub text: String,
    /// So many lines are missing before this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// One of a child's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
        })
    }
}

/// The query of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LogQuery {
    /// Of this generation alone; else of all that are remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Only so many of the latest lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// `1`: goes on with what comes, of every later generation too.
    pub follow: u8,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_gap_says_nothing_of_one() {
        let line = LogLine {
            at_ms: 7,
            generation: Generation(3),
            stream: LogStream::Stderr,
            text: "hello".to_owned(),
            dropped: 0,
        };
        let wire = serde_json::to_string(&line).unwrap();
        assert_eq!(wire, r#"{"at_ms":7,"generation":3,"stream":"stderr","text":"hello"}"#);
        assert_eq!(serde_json::from_str::<LogLine>(&wire).unwrap(), line);
    }
}
