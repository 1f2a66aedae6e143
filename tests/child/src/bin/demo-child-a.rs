//! Build "a" of the demo child.

use demo_child::Behaviour;

fn main() -> std::process::ExitCode {
    demo_child::main(Behaviour::named("a"))
}
