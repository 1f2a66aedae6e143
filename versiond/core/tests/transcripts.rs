//! Golden transcripts: whole stories of a slot, each line with the steps it caused, where every
//! generation then stands, why nothing more is done, and when the slot wants to be asked again. A change
//! of behaviour is a change of these files.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

#[allow(dead_code, reason = "shared by several")]
mod script;

use std::path::PathBuf;

use script::{Played, Script};
use versiond_core::replay::Told;

/// One test for each story in `stories/`. A story that begins with `after NAME` goes on where that one
/// ended.
macro_rules! stories {
    ($($name:ident)*) => {
        const STORIES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

stories! {
    first_start
    overlap_with_three_streams
    superseded_while_fetching_waiting_and_warming
    flip_back_to_the_old_hash
    wrong_hash
    failures_before_the_first_start
    never_ready
    initializing_extends_to_the_limit
    crashes_back_off_and_start_anew_after_a_minute
    the_old_one_dies_while_the_candidate_warms
    a_crash_beside_a_draining_predecessor
    removal_with_streams
    added_again_before_it_has_been_told_to_drain
    added_again_while_it_drains
    added_again_while_local_state_drains
    local_state_needs_a_window
    a_drain_deadline_for_each_class
    the_host_stops_during_a_swap
    the_host_stops_while_a_predecessor_drains
    force
    one_draining_predecessor
    an_entry_that_cannot_be_followed_leaves_what_serves
    a_change_during_a_trial
    a_crash_on_trial_is_taken_back
    a_hold_that_does_not_empty_is_given_up
    a_local_build_that_cannot_start_gives_way
    a_local_build_that_migrates_is_not_taken_back
    a_long_start_needs_a_window
    errors_on_trial_are_taken_back_once
    errors_for_a_common_cause_are_left_alone
    activated_by_height_is_not_taken_back
    gone_back_to_before_it_has_drained
    held_pinned_and_restarted_by_an_operator
    hold_in_two_phases
    no_way_back_to_what_was_told_to_drain_for_good
    parked_until_the_trial_is_over
    unready_on_trial_and_its_predecessor_ready
    unready_on_trial_for_a_common_cause
    what_is_denied_drains_within_30_s
}

#[test]
fn every_story_is_told() {
    let mut told: Vec<String> = STORIES.iter().map(|name| format!("{name}.txt")).collect();
    told.extend(["a_serves.txt", "local_serves.txt", "undrain_serves.txt"].map(str::to_owned));
    told.sort();
    let files = std::fs::read_dir(folder()).unwrap();
    let mut found: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, told);
}

/// Plays a story and compares it with the one that is remembered under this name.
fn check(name: &str) {
    let story = read(name);
    let mut script = Script::new();
    let mut lines = story.as_str();
    if let Some((first, rest)) = story.split_once('\n')
        && let Some(before) = first.strip_prefix("after ")
    {
        script.play(&read(before));
        lines = rest;
    }
    let text: String = script.play(lines).iter().map(render).collect();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "stories"].iter().collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap()
}

fn render(played: &Played) -> String {
    let Played { line, now, steps, refused, slot } = played;
    let text = Told { line, at: *now, steps, refused: refused.as_ref(), slot }.text(1);
    // The day after which it would no longer be heard of says nothing about a story.
    text.split_inclusive('\n').filter(|line| !line.ends_with(" for live expiry\n")).collect()
}
