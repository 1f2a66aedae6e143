//! The height of a chain, as a node's `/status` or a plain file tells it.

use serde::Deserialize;

/// What a source of heights said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeightReading {
    pub height: u64,
    /// The node says that others are further.
    pub catching_up: bool,
}

/// Why no height could be read.
#[derive(Debug, thiserror::Error)]
pub enum HeightError {
    #[error("neither a number nor a node's status")]
    Shape(#[source] serde_json::Error),
    #[error("latest_block_height is {0:?}, expected a number")]
    Number(String),
}

/// Reads a bare number, or `sync_info` of a node's `/status`, with or without the `result` around it.
pub fn read_height(bytes: &[u8]) -> Result<HeightReading, HeightError> {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(height) = text.trim().parse() {
        return Ok(HeightReading { height, catching_up: false });
    }
    let status = serde_json::from_slice(bytes).map_err(HeightError::Shape)?;
    let (Status::Wrapped { result: Inner { sync_info } } | Status::Bare(Inner { sync_info })) = status;
    let height = sync_info.latest_block_height.parse();
    let height = height.map_err(|_| HeightError::Number(sync_info.latest_block_height.chars().take(32).collect()))?;
    Ok(HeightReading { height, catching_up: sync_info.catching_up })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Status {
    Wrapped { result: Inner },
    Bare(Inner),
}

#[derive(Deserialize)]
struct Inner {
    #[serde(alias = "SyncInfo")]
    sync_info: SyncInfo,
}

#[derive(Deserialize)]
struct SyncInfo {
    latest_block_height: String,
    catching_up: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_node_s_status_are_read_and_nothing_else() {
        let read = |text: &str| read_height(text.as_bytes()).map(|reading| (reading.height, reading.catching_up)).ok();
        let status = r#"{"latest_block_height":"7","catching_up":true,"earliest_block_height":"1"}"#;
        assert_eq!(read(" 42\n"), Some((42, false)));
        assert_eq!(read(&format!(r#"{{"jsonrpc":"2.0","result":{{"sync_info":{status}}}}}"#)), Some((7, true)));
        assert_eq!(read(&format!(r#"{{"sync_info":{status},"node_info":{{}}}}"#)), Some((7, true)));
        for bad in ["", "-1", "1.5", "{}", r#"{"result":{}}"#, &status.replace("\"7\"", "\"x\""), "height 5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let odd = format!(r#"{{"sync_info":{}}}"#, status.replace("\"7\"", "\"x\""));
        assert!(matches!(read_height(odd.as_bytes()), Err(HeightError::Number(_))));
    }
}
