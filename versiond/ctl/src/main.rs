//! The operator's command. Everything is in the library, so that tests can call it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    versionctl::main()
}
