use super::*;
use crate::clock::Clock;
use crate::signal::Flag;
use crate::target::{Lease, TargetLabel, Voucher};
use crate::upstream::Upstream;
use futures_util::FutureExt;
use proptest::prelude::*;
use supervisor_protocol::{Generation, Nonce, ServiceName, StreamClass, VersionName};

const HOLD: Absence = Absence::Hold { forecast: None };

fn target(generation: u64) -> Arc<Target> {
    let label = TargetLabel::Generation {
        service: ServiceName::new("svc").unwrap(),
        version: VersionName::new("v1").unwrap(),
        generation: Generation(generation),
    };
    let upstream = Upstream::Tcp(([127, 0, 0, 1], 9).into());
    Target::new(label, Voucher::Nonce(Nonce::new("n").unwrap()), upstream, Clock::start())
}

fn number(target: &Target) -> u64 {
    match target.label() {
        TargetLabel::Generation { generation, .. } => generation.0,
        TargetLabel::Host { .. } => panic!("{}", target.label()),
    }
}

#[test]
fn f02_a_publication_is_visible_before_the_old_target_is_given_back() {
    let slot = SlotRoute::new(HOLD);
    assert!(slot.current().is_none());
    assert!(slot.publish(target(1)).is_none());
    let old = slot.publish(target(2)).unwrap();
    assert_eq!(number(&old), 1);
    assert!(!old.is_retired());
    assert_eq!(number(&slot.current().unwrap()), 2);
}

#[tokio::test]
async fn idle_resolves_with_the_last_lease_and_cut_ends_a_class() {
    let target = target(1);
    let connection = Arc::new(Flag::default());
    let request = target.acquire(connection.clone()).unwrap();
    let stream = target.acquire(connection.clone()).unwrap();
    stream.reclass(StreamClass::Stream);
    assert!(stream.begin_response());
    target.retire();
    assert!(target.acquire(connection.clone()).is_none());

    let idle = tokio::spawn({
        let target = target.clone();
        async move { target.idle().await }
    });
    target.cut(StreamClass::Stream);
    assert!(connection.is_raised());
    assert_eq!(target.load().inflight, 1);
    assert_eq!(target.load().ended.cut.stream, 1);
    drop(stream);
    drop(request);
    idle.await.unwrap();
    assert_eq!(target.load().ended.client_gone.request, 1);
    assert_eq!(target.load().ended.total(), 2);
}

#[test]
fn f01_a_target_that_comes_back_admits_again_and_has_counted_all_the_time() {
    let slot = SlotRoute::new(HOLD);
    let target = target(1);
    slot.publish(target.clone());
    let before = target.acquire(Arc::default()).unwrap();
    let seen = slot.current().unwrap();
    slot.withdraw(HOLD).unwrap().retire();
    assert!(seen.acquire(Arc::default()).is_none(), "it had looked before the withdrawal");
    target.restore();
    assert!(slot.publish(target.clone()).is_none());
    let after = slot.current().unwrap().acquire(Arc::default()).unwrap();
    assert_eq!((target.load().retired, target.load().inflight, target.load().admitted), (false, 2, 2));
    drop(before);
    slot.withdraw(HOLD).unwrap().retire();
    assert!(target.idle().now_or_never().is_none());
    drop(after);
    assert!(target.idle().now_or_never().is_some());
}

/// One step of somebody, between which the steps of all others may lie.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// A request looks at the slot.
    Look,
    /// One that has looked asks for its lease, and looks again if it gets none.
    Acquire(usize),
    End(usize),
    /// The owner takes the target away, and retires it later.
    Withdraw,
    Retire(usize),
    /// It takes a retired target back, and publishes it later.
    Restore(usize),
    Publish(usize),
    PublishNew,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Look),
        6 => any::<usize>().prop_map(Op::Acquire),
        5 => any::<usize>().prop_map(Op::End),
        2 => Just(Op::Withdraw),
        3 => any::<usize>().prop_map(Op::Retire),
        3 => any::<usize>().prop_map(Op::Restore),
        3 => any::<usize>().prop_map(Op::Publish),
        1 => Just(Op::PublishNew),
    ]
}

/// A target as its owner knows it.
struct Known {
    target: Arc<Target>,
    retired: bool,
    admitted: u64,
    leases: Vec<Lease>,
}

impl Known {
    fn new(generation: u64) -> Known {
        Known { target: target(generation), retired: false, admitted: 0, leases: Vec::new() }
    }
}

proptest! {
    /// However acquiring, retiring, restoring and ending lie in each other: a lease is given exactly by a target
    /// that is not retired, each is counted until its own end, a retired target is at rest exactly when its
    /// leases are over, and whoever looks at what is published gets in.
    #[test]
    fn f01_f10_no_lease_is_lost_or_given_in_vain_however_retirement_and_restoration_interleave(
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let slot = SlotRoute::new(HOLD);
        let mut known = vec![Known::new(0)];
        let mut looked: Vec<usize> = Vec::new();
        let index = |known: &[Known], target: &Arc<Target>| {
            known.iter().position(|one| Arc::ptr_eq(&one.target, target)).unwrap()
        };
        for op in ops {
            let current = slot.current().map(|target| index(&known, &target));
            match op {
                Op::Look => looked.extend(current),
                Op::Acquire(at) if !looked.is_empty() => {
                    let seen = looked.swap_remove(at % looked.len());
                    let one = &mut known[seen];
                    let lease = one.target.acquire(Arc::default());
                    prop_assert_eq!(lease.is_some(), !one.retired);
                    one.admitted += u64::from(lease.is_some());
                    one.leases.extend(lease);
                    if one.retired {
                        looked.extend(current);
                    }
                }
                Op::End(at) => {
                    let open: Vec<usize> = (0..known.len()).filter(|one| !known[*one].leases.is_empty()).collect();
                    if !open.is_empty() {
                        known[open[at % open.len()]].leases.pop();
                    }
                }
                Op::Withdraw => prop_assert_eq!(slot.withdraw(HOLD).is_some(), current.is_some()),
                // The rules of the owner: what serves is not retired, what is restored is published by nobody else.
                Op::Retire(at) => {
                    let at = at % known.len();
                    if current != Some(at) {
                        known[at].target.retire();
                        known[at].retired = true;
                    }
                }
                Op::Restore(at) => {
                    let at = at % known.len();
                    if current.is_none() {
                        known[at].target.restore();
                        known[at].retired = false;
                    }
                }
                Op::Publish(at) => {
                    let at = at % known.len();
                    if !known[at].retired && current.is_none() {
                        prop_assert!(slot.publish(known[at].target.clone()).is_none());
                    }
                }
                Op::PublishNew => {
                    known.push(Known::new(known.len() as u64));
                    let before = slot.publish(known[known.len() - 1].target.clone());
                    prop_assert_eq!(before.map(|target| index(&known, &target)), current);
                }
                Op::Acquire(_) => {}
            }
            for one in &known {
                let load = one.target.load();
                prop_assert_eq!(load.retired, one.retired);
                prop_assert_eq!(load.admitted, one.admitted);
                prop_assert_eq!(load.inflight, one.leases.len() as u64);
                prop_assert_eq!(load.ended.total(), one.admitted - load.inflight);
                prop_assert_eq!(one.target.idle().now_or_never().is_some(), one.leases.is_empty());
            }
        }
        // Whatever has happened, what comes back lets in.
        let last = &known[0].target;
        if let Some(current) = slot.withdraw(HOLD) {
            current.retire();
        }
        last.restore();
        slot.publish(last.clone());
        prop_assert!(slot.current().unwrap().acquire(Arc::default()).is_some());
    }
}
