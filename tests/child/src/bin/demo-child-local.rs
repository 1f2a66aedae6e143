//! A build of the demo child whose state lives in its data directory.

fn main() -> std::process::ExitCode {
    demo_child::main("local", demo_child::Temper::Local)
}
