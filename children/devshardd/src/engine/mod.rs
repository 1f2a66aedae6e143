//! What runs a model. A session host knows no more of it than this trait.
//!
//! Must not live here: claims, storage, clients. An engine is called once for an inference, and whether it was is what
//! its errors must say.

pub mod echo;
pub mod openai;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use devshard_core::ids::ExecutionKey;

/// What a model is asked.
#[derive(Debug, Clone)]
pub struct Job {
    pub key: ExecutionKey,
    pub model: String,
    /// The body of a chat completion in JSON, or plain text.
    pub prompt: Bytes,
    pub max_tokens: u32,
    /// Whether it is to stream.
    pub stream: bool,
    /// The model ends within this.
    pub within: Duration,
    pub purpose: Purpose,
}

/// What a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The answer to a prompt.
    Answer,
    /// The answer of another is checked: the model is asked under a name of its own.
    Check,
    /// The prompt is sealed: the model alone can read it, and gets it as it came.
    Sealed,
}

impl Job {
    /// What the model knows it by.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.key.idempotency_key();
        match self.purpose {
            Purpose::Answer | Purpose::Sealed => name,
            Purpose::Check => format!("{name}-check"),
        }
    }
}

/// Why a model has not given a whole answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing was begun: it may be asked again.
    #[error("the model was not reached")]
    NotReached(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has refused, and not begun.
    #[error("the model refused with {status}: {body}")]
    Refused { status: u16, body: String },
    /// It has begun, and broke off.
    #[error("the model broke off: {0}")]
    BrokenOff(String),
    /// It has begun, and was too slow.
    #[error("the model did not end within {0:?}")]
    TooSlow(Duration),
    /// Nobody listens any more.
    #[error("cancelled")]
    Cancelled,
}

impl EngineError {
    /// Whether it is certain that the model did no work.
    #[must_use]
    pub const fn has_not_run(&self) -> bool {
        match self {
            EngineError::NotReached(_) | EngineError::Refused { .. } => true,
            EngineError::BrokenOff(_) | EngineError::TooSlow(_) | EngineError::Cancelled => false,
        }
    }
}

/// Any of them.
#[derive(Debug, Clone)]
pub enum Engine {
    Echo(echo::Echo),
    OpenAi(openai::OpenAi),
}

impl Engine {
    /// Whether it may have a model that can open what is sealed.
    #[must_use]
    pub const fn takes_sealed(&self) -> bool {
        match self {
            Engine::Echo(_) => false,
            Engine::OpenAi(_) => true,
        }
    }

    /// Runs the job to its end. Each payload is the data of one event, `[DONE]` the last.
    pub async fn run(&self, job: &Job, payloads: mpsc::Sender<Bytes>) -> Result<(), EngineError> {
        let running = async {
            match self {
                Engine::Echo(echo) => echo.run(job, payloads).await,
                Engine::OpenAi(openai) => openai.run(job, payloads).await,
            }
        };
        tokio::time::timeout(job.within, running).await.unwrap_or(Err(EngineError::TooSlow(job.within)))
    }
}

/// Hands one payload on.
async fn give(payloads: &mpsc::Sender<Bytes>, payload: Bytes) -> Result<(), EngineError> {
    payloads.send(payload).await.map_err(|_| EngineError::Cancelled)
}
