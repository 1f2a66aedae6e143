//! A build of the demo child that does what the end of its own file says.

use std::io::Write;
use std::process::ExitCode;

use demo_child::Behaviour;

fn main() -> ExitCode {
    match Behaviour::of_this_program() {
        Ok(behaviour) => demo_child::main(behaviour),
        Err(error) => {
            // Nobody may be listening.
            writeln!(std::io::stderr(), "demo-child-told: {error}").ok();
            ExitCode::from(64)
        }
    }
}
