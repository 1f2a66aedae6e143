//! The order of hosts where no key decides: by what is in flight, or in turn.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::members::MemberId;
use crate::placement::Weight;

/// Whoever has least in flight for its weight first; of equal ones, whose turn it is.
pub(crate) fn least_inflight<'v>(
    hosts: &BTreeMap<&'v MemberId, Weight>,
    turn: u64,
    inflight: &dyn Fn(&MemberId) -> u64,
) -> Vec<&'v MemberId> {
    let in_turn = round_robin(hosts, turn);
    // Asked once each: it may change meanwhile, and a sort needs one answer.
    let mut loaded: Vec<(&MemberId, u64, Weight)> =
        in_turn.into_iter().map(|id| (id, inflight(id), hosts.get(id).copied().unwrap_or_default())).collect();
    loaded.sort_by(|(_, a, of_a), (_, b, of_b)| match (of_a.0, of_b.0) {
        (0, 0) => a.cmp(b),
        (0, _) => Ordering::Greater,
        (_, 0) => Ordering::Less,
        // One more each: an idle host of twice the weight takes two before the other takes one.
        (w, v) => ((u128::from(*a) + 1) * u128::from(v)).cmp(&((u128::from(*b) + 1) * u128::from(w))),
    });
    loaded.into_iter().map(|(id, ..)| id).collect()
}

/// Whose turn it is first, then those that follow. Hosts of equal weight take exact turns; of unequal ones
/// each has its share of the turns, spread evenly.
pub(crate) fn round_robin<'v>(hosts: &BTreeMap<&'v MemberId, Weight>, turn: u64) -> Vec<&'v MemberId> {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let count = u64::try_from(hosts.len()).unwrap_or(u64::MAX);
    let total: u64 = hosts.values().map(|weight| u64::from(weight.0)).sum();
    let Some(first) = hosts.values().next().copied().filter(|_| count > 0) else { return Vec::new() };
    let start = if total == 0 || hosts.values().all(|weight| *weight == first) {
        usize::try_from(turn % count).unwrap_or_default()
    } else {
        // The multiples of the golden ratio fall evenly into a circle, however it is divided.
        let place = (u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(total)) >> 64;
        let mut end = 0_u128;
        let ends = hosts.values().map(|weight| {
            end += u128::from(weight.0);
            end
        });
        ends.take_while(|end| *end <= place).count()
    };
    let ids: Vec<&MemberId> = hosts.keys().copied().collect();
    let mut order: Vec<&MemberId> = ids.iter().cycle().skip(start).take(ids.len()).copied().collect();
    order.sort_by_key(|id| total > 0 && hosts.get(id) == Some(&Weight(0)));
    order
}
