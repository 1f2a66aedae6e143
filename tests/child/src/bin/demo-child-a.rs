//! Build "a" of the demo child.

fn main() -> std::process::ExitCode {
    demo_child::main("a", demo_child::Temper::Willing)
}
