//! A build of the demo child that starts, and never becomes ready.

use demo_child::Behaviour;

fn main() -> std::process::ExitCode {
    demo_child::main(Behaviour { never_ready: Some("model missing".to_owned()), ..Behaviour::named("stuck") })
}
