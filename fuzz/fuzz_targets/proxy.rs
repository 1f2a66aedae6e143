//! The header of a balancer: see the body, which the tests replay the corpus through as well.

#![no_main]

#[path = "../bodies/proxy.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
