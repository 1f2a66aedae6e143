//! What may happen in a world.

use proptest::prelude::*;
use supervisor_protocol::contract::DrainMode;

/// How many hosts there are; the clone of each may appear at an address of its own.
pub(crate) const HOSTS: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// It answers as it is.
    Answer(usize),
    Timeout(usize),
    Refuse(usize),
    Overload(usize),
    /// Its process ends, or begins again with a new boot nonce. Nobody is told.
    Kill(usize),
    Start(usize),
    Cordon(usize, DrainMode),
    Uncordon(usize),
    /// Its child of `v1` becomes ready, or is not any more.
    Child(usize, bool),
    /// The clone of its disk answers.
    CloneAnswers(usize),
    CloneTimesOut(usize),
    DnsFails,
    DnsEmpty,
    DnsShuffled,
    /// One is left out of one answer, and the next has it again.
    DnsBlip(usize),
    Wait(u64),
    Request(u32),
}

pub(crate) fn story() -> impl Strategy<Value = Vec<Act>> {
    let host = || 0..HOSTS;
    let act = prop_oneof![
        8 => host().prop_map(Act::Answer),
        4 => host().prop_map(Act::Timeout),
        2 => host().prop_map(Act::Refuse),
        1 => host().prop_map(Act::Overload),
        1 => host().prop_map(Act::Kill),
        1 => host().prop_map(Act::Start),
        2 => (host(), mode()).prop_map(|(host, mode)| Act::Cordon(host, mode)),
        1 => host().prop_map(Act::Uncordon),
        2 => (host(), any::<bool>()).prop_map(|(host, ready)| Act::Child(host, ready)),
        1 => host().prop_map(Act::CloneAnswers),
        1 => Just(Act::DnsFails),
        1 => Just(Act::DnsEmpty),
        1 => Just(Act::DnsShuffled),
        1 => host().prop_map(Act::DnsBlip),
        1 => (1..20_u64).prop_map(Act::Wait),
        3 => (0..40_u32).prop_map(Act::Request),
    ];
    prop::collection::vec(act, 1..60)
}

pub(crate) fn drains_and_clones() -> impl Strategy<Value = Vec<Act>> {
    let host = || 0..HOSTS;
    let act = prop_oneof![
        6 => host().prop_map(Act::Answer),
        1 => host().prop_map(Act::Refuse),
        4 => (host(), mode()).prop_map(|(host, mode)| Act::Cordon(host, mode)),
        1 => host().prop_map(Act::Uncordon),
        1 => host().prop_map(Act::Start),
        2 => host().prop_map(Act::CloneAnswers),
        1 => host().prop_map(Act::CloneTimesOut),
        1 => (1..20_u64).prop_map(Act::Wait),
        8 => (0..10_u32).prop_map(Act::Request),
    ];
    prop::collection::vec(act, 1..60)
}

fn mode() -> impl Strategy<Value = DrainMode> {
    prop_oneof![Just(DrainMode::All), Just(DrainMode::Sessions)]
}
