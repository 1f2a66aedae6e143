//! A worker: it has no traffic.

use demo_child::{Behaviour, Role, StateKind};

fn main() -> std::process::ExitCode {
    demo_child::main(Behaviour { role: Role::Worker, state: StateKind::Shared, ..Behaviour::named("worker") })
}
