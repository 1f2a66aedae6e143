//! A worker: it has no traffic, and writes the beginning and the end of each piece of work into the journal
//! of its slot, with its generation.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use supervisor_sdk::{Context, StreamClass};

/// Long enough that a replacement nearly always meets one in flight.
const PIECE: Duration = Duration::from_millis(200);

/// Works until it is dropped.
pub(crate) async fn work(context: Context) -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = context.data_dir().ok_or("`--data-dir` is missing")?;
    let generation = context.identity().generation.ok_or("a supervisor starts it")?;
    let mut journal = std::fs::File::options().create(true).append(true).open(folder.join("journal"))?;
    for n in 0_u64.. {
        let _lease = context.lease(StreamClass::Job).await;
        writeln!(journal, "{generation} begins {n}")?;
        tokio::time::sleep(PIECE).await;
        writeln!(journal, "{generation} ends {n}")?;
    }
    Ok(())
}
