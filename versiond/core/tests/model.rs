//! The slot machine in random worlds: whatever a catalog, builds and the passing of time do, every
//! promise holds after every step, and everything comes to rest.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

mod world;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use world::World;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4 * ProptestConfig::default().cases,
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    // F02, F08, F11, F13: a target at every moment, never two on one data directory, one that drains.
    #[test]
    fn every_promise_holds_in_every_world(story in world::story::story()) {
        World::live(&story);
    }
    // F15, F22: taken back for more errors than its predecessor makes, for nothing else, and never left.
    #[test]
    fn errors_take_back_what_makes_them_and_nothing_else(story in world::story::trials()) {
        World::live(&story);
    }
    #[test]
    fn a_recording_of_any_world_at_any_moment_replays_to_the_same_steps_and_the_same_end(
        story in world::story::story(),
        kept in prop_oneof![2_usize..32, Just(512)],
        every in 1_usize..200,
    ) {
        World::fly(&story, kept, every);
    }
}
