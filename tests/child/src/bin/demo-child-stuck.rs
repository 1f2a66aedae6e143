//! A build of the demo child that starts, and never becomes ready.

fn main() -> std::process::ExitCode {
    demo_child::main("stuck", demo_child::Temper::Stuck)
}
