//! The devshardd program: a child of a supervisor, or alone.

use std::process::ExitCode;

use children_kit::settings::Settings;
use devshardd::config::Mode;
use devshardd::metrics::Counters;
use devshardd::serve;
use supervisor_sdk::{Child, DataFormats, DrainMode, StreamClass, describe};

#[allow(clippy::print_stderr, reason = "logging has not begun")]
fn main() -> ExitCode {
    // `--describe` says where the sessions are, which is a setting.
    let mode = match Mode::of(&Settings::of_process()) {
        Ok(mode) => mode,
        Err(error) => {
            eprintln!("devshardd: {error}");
            return ExitCode::from(supervisor_sdk::exit::USAGE);
        }
    };
    let mut about = describe("devshardd", env!("CARGO_PKG_VERSION"), mode.state());
    about.data = Some(DataFormats { reads: [1, devshardd::storage::FORMAT], writes: devshardd::storage::FORMAT });
    about.streams = vec![StreamClass::Request, StreamClass::Stream];
    about.drain_modes = vec![DrainMode::All, DrainMode::Sessions];
    let (metrics, counters) = Counters::new();
    Child::new(about).metrics(move || metrics.text()).serve(async move |context| {
        children_kit::log::init();
        serve(context, counters).await
    })
}
