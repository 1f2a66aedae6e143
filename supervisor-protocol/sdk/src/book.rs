//! The book of admitted work: how much, of which class, how old. Pure; the time is a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::{ByClass, StreamClass, Tick};

/// The name of one entry, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseId(u64);

#[derive(Debug, Clone, Copy)]
struct Entry {
    class: StreamClass,
    began: Tick,
}

/// Everything that was admitted and has not ended.
#[derive(Debug, Default)]
pub(crate) struct Book {
    next: u64,
    live: BTreeMap<LeaseId, Entry>,
    by_class: ByClass<u64>,
}

impl Book {
    /// Enters work that begins now. It is a request until [`Book::classify`] says otherwise.
    pub(crate) fn open(&mut self, now: Tick) -> LeaseId {
        let id = LeaseId(self.next);
        self.next += 1;
        self.live.insert(id, Entry { class: StreamClass::Request, began: now });
        self.by_class.request += 1;
        id
    }

    /// Moves an entry to another class; its age stays.
    pub(crate) fn classify(&mut self, id: LeaseId, class: StreamClass) {
        if let Some(entry) = self.live.get_mut(&id) {
            *self.by_class.get_mut(entry.class) -= 1;
            *self.by_class.get_mut(class) += 1;
            entry.class = class;
        }
    }

    /// Strikes an entry out.
    pub(crate) fn close(&mut self, id: LeaseId) {
        if let Some(entry) = self.live.remove(&id) {
            *self.by_class.get_mut(entry.class) -= 1;
        }
    }

    pub(crate) fn by_class(&self) -> ByClass<u64> {
        self.by_class
    }

    pub(crate) fn inflight(&self) -> u64 {
        self.by_class.total()
    }

    /// The age of the oldest entry; zero when there is none.
    pub(crate) fn oldest(&self, now: Tick) -> Duration {
        // Identifiers and ticks grow together, so the first entry is the oldest.
        self.live.first_key_value().map_or(Duration::ZERO, |(_, entry)| now.since(entry.began))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Open,
        Classify(usize, StreamClass),
        Close(usize),
        Pass(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let class = prop::sample::select(StreamClass::ALL.to_vec());
        prop_oneof![
            Just(Op::Open),
            (any::<usize>(), class).prop_map(|(at, class)| Op::Classify(at, class)),
            any::<usize>().prop_map(Op::Close),
            (0..1_000u64).prop_map(Op::Pass),
        ]
    }

    proptest! {
        /// The model is a plain list of (id, class, beginning); closed entries are closed twice.
        #[test]
        fn the_book_counts_what_a_plain_list_counts(ops in prop::collection::vec(op(), 0..120)) {
            let (mut book, mut model, mut now) = (Book::default(), Vec::new(), Tick::ZERO);
            for op in ops {
                match op {
                    Op::Open => model.push((book.open(now), StreamClass::Request, now)),
                    Op::Classify(at, class) if !model.is_empty() => {
                        let at = at % model.len();
                        model[at].1 = class;
                        book.classify(model[at].0, class);
                    }
                    Op::Close(at) if !model.is_empty() => {
                        let (id, ..) = model.remove(at % model.len());
                        book.close(id);
                        book.close(id);
                        book.classify(id, StreamClass::Job);
                    }
                    Op::Classify(..) | Op::Close(_) => {}
                    Op::Pass(ms) => now = now.after(Duration::from_millis(ms)),
                }
                for class in StreamClass::ALL {
                    let expected = model.iter().filter(|(_, of, _)| *of == class).count();
                    prop_assert_eq!(*book.by_class().get(class), u64::try_from(expected).unwrap());
                }
                let oldest = model.iter().map(|(_, _, began)| now.since(*began)).max().unwrap_or_default();
                prop_assert_eq!(book.oldest(now), oldest);
            }
        }
    }
}
