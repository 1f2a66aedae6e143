use super::*;
use proptest::prelude::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_retired_book_admits_nothing_and_keeps_what_is_live() {
    let mut book = LeaseBook::default();
    let id = book.admit(StreamClass::Request, Tick(10), "a").unwrap();
    book.retire();
    assert_eq!(book.admit(StreamClass::Request, Tick(11), "b"), Err("b"));
    assert_eq!(book.counts().total(), 1);
    assert_eq!(book.longest_since_retired(), Some(Duration::ZERO));
    assert_eq!(book.finish(id, Tick(2_010), How::Finished), Some("a"));
    assert!(book.is_empty());
    assert_eq!(book.longest_since_retired(), Some(seconds(2)));
}

#[test]
fn a_restored_book_admits_again_and_counts_on() {
    let mut book = LeaseBook::default();
    let first = book.admit(StreamClass::Request, Tick(0), 'a').unwrap();
    book.retire();
    assert_eq!(book.finish(first, Tick(9_000), How::Finished), Some('a'));
    book.restore();
    assert!(!book.is_retired());
    assert_eq!(book.longest_since_retired(), None);
    let second = book.admit(StreamClass::Request, Tick(10_000), 'b').unwrap();
    assert_ne!(first, second);
    book.retire();
    assert_eq!(book.finish(first, Tick(10_500), How::Cut), None);
    assert_eq!(book.finish(second, Tick(11_000), How::Finished), Some('b'));
    assert_eq!((book.admitted(), book.ended().finished.request), (2, 2));
    assert_eq!(book.longest_since_retired(), Some(seconds(1)));
}

#[test]
fn a_cut_ends_one_class_and_later_ends_do_not_count() {
    let mut book = LeaseBook::default();
    let stream = book.admit(StreamClass::Request, Tick(0), 's').unwrap();
    let request = book.admit(StreamClass::Request, Tick(0), 'r').unwrap();
    assert!(book.reclass(stream, StreamClass::Stream));
    assert_eq!(book.cut(StreamClass::Stream, Tick(5)), ['s']);
    assert_eq!(book.finish(stream, Tick(6), How::ClientGone), None);
    assert_eq!(book.ended().cut.stream, 1);
    assert_eq!(book.ended().total(), 1);
    assert_eq!(book.finish(request, Tick(6), How::Finished), Some('r'));
}

#[test]
fn the_percentile_is_the_nearest_rank_over_the_last_thousand() {
    let mut history = History::default();
    for n in 1..=19 {
        history.record(StreamClass::Stream, seconds(n));
    }
    assert_eq!(history.p95(StreamClass::Stream), None);
    history.record(StreamClass::Stream, seconds(20));
    assert_eq!(history.p95(StreamClass::Stream), Some(seconds(19)));
    for _ in 0..REMEMBERED {
        history.record(StreamClass::Stream, seconds(7));
    }
    assert_eq!(history.p95(StreamClass::Stream), Some(seconds(7)));
}

#[test]
fn a_forecast_is_the_maximum_over_the_leases() {
    let mut history = History::default();
    for _ in 0..ENOUGH {
        history.record(StreamClass::Stream, seconds(60));
    }
    let forecast = |ages: &[(StreamClass, u64)]| {
        forecast(ages.iter().map(|(class, age)| (*class, seconds(*age))), &history, &CLASS_DEADLINES)
    };
    assert_eq!(forecast(&[]), Duration::ZERO);
    assert_eq!(forecast(&[(StreamClass::Stream, 45), (StreamClass::Stream, 20)]), seconds(40));
    assert_eq!(forecast(&[(StreamClass::Stream, 600)]), LEAST_FORECAST);
    assert_eq!(forecast(&[(StreamClass::Request, 30), (StreamClass::Stream, 50)]), seconds(90));
}

#[derive(Debug, Clone)]
enum Op {
    Admit(StreamClass),
    Reclass(usize, StreamClass),
    Finish(usize, How),
    Cut(StreamClass),
    Retire,
    Wait(u64),
}

fn class() -> impl Strategy<Value = StreamClass> {
    proptest::sample::select(StreamClass::ALL.to_vec())
}

fn op() -> impl Strategy<Value = Op> {
    let how = proptest::sample::select(vec![How::Finished, How::ClientGone, How::UpstreamBroke, How::Cut]);
    prop_oneof![
        8 => class().prop_map(Op::Admit),
        3 => (any::<usize>(), class()).prop_map(|(at, class)| Op::Reclass(at, class)),
        6 => (any::<usize>(), how).prop_map(|(at, how)| Op::Finish(at, how)),
        1 => class().prop_map(Op::Cut),
        1 => Just(Op::Retire),
        4 => (0u64..5_000).prop_map(Op::Wait),
    ]
}

/// Id, class, since, end.
type Entry = (LeaseId, StreamClass, u64, Option<(How, u64)>);

/// What the book must agree with: a list of everything ever admitted.
#[derive(Default)]
struct Naive {
    leases: Vec<Entry>,
    retired_at: Option<u64>,
}

proptest! {
    #[test]
    fn the_book_agrees_with_a_naive_list(ops in proptest::collection::vec(op(), 0..200)) {
        let mut book = LeaseBook::default();
        let mut naive = Naive::default();
        let mut now = 0u64;
        for op in ops {
            match op {
                Op::Wait(ms) => now += ms,
                Op::Retire => {
                    book.retire();
                    naive.retired_at.get_or_insert(now);
                }
                Op::Admit(class) => match book.admit(class, Tick(now), naive.leases.len()) {
                    Ok(id) => {
                        prop_assert!(naive.retired_at.is_none());
                        naive.leases.push((id, class, now, None));
                    }
                    Err(_) => prop_assert!(naive.retired_at.is_some()),
                },
                Op::Reclass(at, class) if !naive.leases.is_empty() => {
                    let at = at % naive.leases.len();
                    let lease = &mut naive.leases[at];
                    prop_assert_eq!(book.reclass(lease.0, class), lease.3.is_none());
                    if lease.3.is_none() {
                        lease.1 = class;
                    }
                }
                Op::Finish(at, how) if !naive.leases.is_empty() => {
                    let at = at % naive.leases.len();
                    let lease = &mut naive.leases[at];
                    let expected = lease.3.is_none().then_some(at);
                    prop_assert_eq!(book.finish(lease.0, Tick(now), how), expected);
                    lease.3.get_or_insert((how, now));
                }
                Op::Reclass(..) | Op::Finish(..) => {}
                Op::Cut(class) => {
                    let cut = book.cut(class, Tick(now));
                    let mut expected = Vec::new();
                    for (at, lease) in naive.leases.iter_mut().enumerate() {
                        if lease.1 == class && lease.3.is_none() {
                            lease.3 = Some((How::Cut, now));
                            expected.push(at);
                        }
                    }
                    prop_assert_eq!(cut, expected);
                }
            }

            let live: Vec<_> = naive.leases.iter().filter(|lease| lease.3.is_none()).collect();
            for class in StreamClass::ALL {
                let of_class = |how| {
                    naive.leases.iter().filter(|l| l.1 == class && l.3.is_some_and(|(h, _)| h == how)).count() as u64
                };
                prop_assert_eq!(*book.counts().get(class), live.iter().filter(|l| l.1 == class).count() as u64);
                for how in [How::Finished, How::ClientGone, How::UpstreamBroke, How::Cut] {
                    prop_assert_eq!(*book.ended().of(how).get(class), of_class(how));
                }
            }
            prop_assert_eq!(book.admitted(), naive.leases.len() as u64);
            prop_assert_eq!(book.ended().total() + book.counts().total(), book.admitted());
            let oldest = live.iter().map(|l| now - l.2).max().unwrap_or(0);
            prop_assert_eq!(millis(book.oldest(Tick(now))), oldest);
            let longest = naive.retired_at.map(|at| {
                naive.leases.iter().filter_map(|l| l.3.filter(|e| e.1 >= at).map(|e| e.1 - l.2)).max()
            });
            if let (Some(seen), Some(book_says)) = (longest, book.longest_since_retired()) {
                // Those that ended in the very millisecond of the retirement may count for either side.
                prop_assert!(millis(book_says) <= seen.unwrap_or(0));
            }
        }
    }
}
