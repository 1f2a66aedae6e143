//! Random worlds: hosts answer, fall silent, cordon, restart and are cloned, DNS blips, time passes and requests
//! are sent. After every step the pool is held against a model that knows nothing of how it is made.

mod act;
mod expected;
mod worlds;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use act::story;
use worlds::Worlds;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases,
        max_shrink_iters: 5_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    // P8, P9, F48, F51, F58.
    #[test]
    fn f48_f51_f58_f60_every_promise_holds_in_every_world(story in story()) {
        let mut worlds = Worlds::new();
        for act in story {
            worlds.step(&act);
        }
    }

    // The same worlds, with nothing but what the other half of the promises is about.
    #[test]
    fn f62_f63_f65_drains_and_clones_keep_their_promises_in_every_world(story in act::drains_and_clones()) {
        let mut worlds = Worlds::new();
        for act in story {
            worlds.step(&act);
        }
    }
}
