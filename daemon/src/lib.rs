//! What versiond and versiond-router do alike because they are daemons: they log, listen, know a token, and tell
//! what happens as a stream of events.
//!
//! Must not live here: anything about processes, hosts or requests.

mod events;
mod listen;
mod logging;
mod sse;
mod token;

pub use events::{EventReader, Events, NoEventId};
pub use listen::bind;
pub use logging::init_logging;
pub use sse::{NoStream, READERS, stream};
pub use token::{TokenHash, bearer};
