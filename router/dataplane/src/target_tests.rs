//! Leases against a model: whatever is done with them in whatever order, each ends once, as what ended it first.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use supervisor_protocol::{Generation, ServiceName, VersionName};

use super::*;
use crate::upstream::Upstream;

/// What is done with the leases of one target; a number picks one of those that are still held.
#[derive(Debug, Clone)]
enum Act {
    Acquire,
    Reclass(usize, StreamClass),
    Begin(usize),
    Finish(usize, How),
    /// Let go without a word: whoever held it was dropped.
    Drop(usize),
    /// Whoever held it has panicked.
    Panic(usize),
    Cut(StreamClass),
    Retire,
    Restore,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let class = || prop::sample::select(StreamClass::ALL.to_vec());
    let how = prop::sample::select(vec![How::Finished, How::ClientGone, How::UpstreamBroke]);
    let act = prop_oneof![
        4 => Just(Act::Acquire),
        2 => (any::<usize>(), class()).prop_map(|(which, class)| Act::Reclass(which, class)),
        1 => any::<usize>().prop_map(Act::Begin),
        2 => (any::<usize>(), how).prop_map(|(which, how)| Act::Finish(which, how)),
        2 => any::<usize>().prop_map(Act::Drop),
        1 => any::<usize>().prop_map(Act::Panic),
        1 => class().prop_map(Act::Cut),
        1 => Just(Act::Retire),
        1 => Just(Act::Restore),
    ];
    prop::collection::vec(act, 0..60)
}

/// A lease that is held, and what the model knows of it.
struct Held {
    lease: Lease,
    class: StreamClass,
    /// Whether it counts still.
    live: bool,
    begun: bool,
}

#[derive(Default)]
struct Model {
    held: Vec<Held>,
    retired: bool,
    admitted: u64,
    ended: BTreeMap<(How, StreamClass), u64>,
}

impl Model {
    fn pick(&mut self, which: usize) -> Option<usize> {
        (!self.held.is_empty()).then(|| which % self.held.len())
    }

    fn ends(&mut self, at: usize, how: How) {
        let held = &mut self.held[at];
        if std::mem::take(&mut held.live) {
            *self.ended.entry((how, held.class)).or_default() += 1;
        }
    }

    fn act(&mut self, target: &Arc<Target>, act: Act) {
        match act {
            Act::Acquire => {
                let lease = target.acquire(Arc::default());
                assert_eq!(lease.is_some(), !self.retired);
                if let Some(lease) = lease {
                    self.admitted += 1;
                    self.held.push(Held { lease, class: StreamClass::Request, live: true, begun: false });
                }
            }
            Act::Reclass(which, class) => {
                if let Some(at) = self.pick(which) {
                    self.held[at].lease.reclass(class);
                    if self.held[at].live {
                        self.held[at].class = class;
                    }
                }
            }
            Act::Begin(which) => {
                if let Some(at) = self.pick(which) {
                    let held = &mut self.held[at];
                    // Finished by its holder it is not cut, and may say so.
                    let was_cut = held.lease.poll_cut(&Context::from_waker(std::task::Waker::noop())).is_ready();
                    assert_eq!(held.lease.begin_response(), !was_cut && !held.begun);
                    held.begun = true;
                }
            }
            Act::Finish(which, how) => {
                if let Some(at) = self.pick(which) {
                    self.held[at].lease.finish(how);
                    self.ends(at, how);
                }
            }
            Act::Drop(which) => {
                if let Some(at) = self.pick(which) {
                    self.ends(at, How::ClientGone);
                    drop(self.held.swap_remove(at));
                }
            }
            Act::Panic(which) => {
                if let Some(at) = self.pick(which) {
                    self.ends(at, How::ClientGone);
                    let held = self.held.swap_remove(at);
                    let panicked = catch_unwind(AssertUnwindSafe(move || {
                        let _held = held;
                        std::panic::resume_unwind(Box::new("asked for"));
                    }));
                    assert!(panicked.is_err());
                }
            }
            Act::Cut(class) => {
                target.cut(class);
                for at in 0..self.held.len() {
                    if self.held[at].class == class {
                        self.ends(at, How::Cut);
                    }
                }
            }
            Act::Retire => {
                target.retire();
                self.retired = true;
            }
            Act::Restore => {
                target.restore();
                self.retired = false;
            }
        }
    }

    fn agrees(&self, target: &Target) {
        let load = target.load();
        let live = self.held.iter().filter(|held| held.live);
        let mut by_class = ByClass::<u64>::default();
        live.for_each(|held| *by_class.get_mut(held.class) += 1);
        assert_eq!((load.by_class, load.inflight), (by_class, by_class.total()));
        assert_eq!((load.admitted, load.retired), (self.admitted, self.retired));
        for how in [How::Finished, How::ClientGone, How::UpstreamBroke, How::Cut] {
            for class in StreamClass::ALL {
                let expected = self.ended.get(&(how, class)).copied().unwrap_or_default();
                assert_eq!(*load.ended.of(how).get(class), expected, "{how:?} {class:?}");
            }
        }
        assert_eq!(load.admitted, load.ended.total() + load.inflight);
    }
}

proptest! {
    #[test]
    fn p1_every_lease_ends_once_as_what_ended_it_first(acts in acts()) {
        let label = TargetLabel::Generation {
            service: ServiceName::new("a").unwrap(),
            version: VersionName::new("v1").unwrap(),
            generation: Generation(1),
        };
        let target = Target::new(label, Voucher::Nobody, Upstream::Unix("/nowhere".into()), Clock::start());
        let mut model = Model::default();
        for act in acts {
            model.act(&target, act);
            model.agrees(&target);
        }
        model.held.clear();
        prop_assert_eq!(target.load().inflight, 0);
    }
}
