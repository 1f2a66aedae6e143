//! Build "b" of the demo child.

fn main() -> std::process::ExitCode {
    demo_child::main("b", demo_child::Temper::Willing)
}
