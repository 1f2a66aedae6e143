//! An engine without a model: the words of the prompt come back one by one, at a set rate. Every run of an inference
//! gives the same tokens, so that a test can say what must come.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{EngineError, Job, give};

/// The engine.
#[derive(Debug, Clone)]
pub struct Echo {
    /// Between two tokens; zero = as fast as they are taken.
    pub every: Duration,
    /// Where each run is noted in a line of its own, for whoever counts them.
    journal: Option<Arc<Mutex<std::fs::File>>>,
}

impl Echo {
    /// At this rate. Runs are noted in `journal`, which several processes may share.
    pub fn new(every: Duration, journal: Option<PathBuf>) -> std::io::Result<Echo> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let journal = journal.map(open).transpose()?.map(|file| Arc::new(Mutex::new(file)));
        Ok(Echo { every, journal })
    }

    pub(super) async fn run(&self, job: &Job, payloads: mpsc::Sender<Bytes>) -> Result<(), EngineError> {
        if let Some(journal) = &self.journal {
            // One short write to a file that is opened for appending is whole.
            let line = format!("{} {}\n", job.key.epoch, job.name());
            journal.lock().write_all(line.as_bytes()).map_err(|error| EngineError::NotReached(Box::new(error)))?;
        }
        let words = words(&job.prompt);
        let begun = Instant::now();
        for number in 0..job.max_tokens {
            sleep_until(begun + self.every.saturating_mul(number)).await;
            let index = usize::try_from(number).unwrap_or_default() % words.len();
            let is_last = number + 1 == job.max_tokens;
            give(&payloads, chunk(job, &words[index], number, is_last)).await?;
        }
        give(&payloads, Bytes::from_static(b"[DONE]")).await
    }
}

fn chunk(job: &Job, word: &str, number: u32, is_last: bool) -> Bytes {
    let finish = if is_last { json!("length") } else { Value::Null };
    let chunk = json!({
        "id": job.name(),
        "object": "chat.completion.chunk",
        "model": job.model,
        "choices": [{"index": 0, "delta": {"content": format!("{word} ")}, "finish_reason": finish}],
        "token": number,
    });
    Bytes::from(chunk.to_string())
}

/// Of the last message, or of the whole text. Never empty.
fn words(prompt: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(prompt);
    let message = serde_json::from_str::<Value>(&text).ok().and_then(|body| {
        let last = body.get("messages")?.as_array()?.last()?.get("content")?.as_str()?.to_owned();
        Some(last)
    });
    let words: Vec<String> = message.as_deref().unwrap_or(&text).split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { vec!["…".to_owned()] } else { words }
}
