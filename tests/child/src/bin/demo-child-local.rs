//! A build of the demo child whose state lives in its data directory.

use demo_child::{Behaviour, StateKind};

fn main() -> std::process::ExitCode {
    demo_child::main(Behaviour { state: StateKind::Local, ..Behaviour::named("local") })
}
