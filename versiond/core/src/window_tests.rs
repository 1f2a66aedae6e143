use super::*;
use proptest::prelude::*;

/// Monday, 5 January 1970, midnight.
const MONDAY: u64 = 4 * DAY;
const NOW: Tick = Tick(1_000);

/// Days from Monday, hours and minutes, as a moment of a week long after.
fn at(day: u64, hour: u64, minute: u64) -> u64 {
    MONDAY + 2_900 * WEEK + day * DAY + hour * 3_600 + minute * 60
}

fn open(minutes: u64) -> Opening {
    Opening::Open { closes: Some(NOW.after(Duration::from_secs(60 * minutes))) }
}

fn closed(minutes: u64) -> Opening {
    Opening::Closed { opens: NOW.after(Duration::from_secs(60 * minutes)) }
}

#[test]
fn a_window_is_open_from_its_first_minute_to_before_its_last() {
    let check = |window: &str, moments: &[(u64, Opening)]| {
        let window = Window::parse(window).unwrap();
        for (moment, expected) in moments {
            assert_eq!(window.opening(*moment, NOW), *expected, "{window} at {moment}");
        }
    };
    check(
        "Tue 09:00-16:00 UTC",
        &[
            (at(1, 9, 0), open(7 * 60)),
            (at(1, 15, 59), open(1)),
            (at(1, 16, 0), closed(7 * 24 * 60 - 7 * 60)),
            (at(1, 8, 59), closed(1)),
            (at(2, 9, 0), closed(6 * 24 * 60)),
        ],
    );
    // Over midnight.
    check(
        "Mon-Fri 22:00-02:00 UTC",
        &[
            (at(0, 22, 0), open(4 * 60)),
            (at(1, 1, 0), open(60)),
            (at(1, 2, 0), closed(20 * 60)),
            (at(5, 1, 59), open(1)),
            (at(5, 22, 0), closed(2 * 24 * 60)),
            (at(0, 1, 0), closed(21 * 60)),
        ],
    );
    // Over the end of the week.
    check(
        "Sun 23:00-01:00 UTC",
        &[(at(6, 23, 30), open(90)), (at(0, 0, 59), open(1)), (at(0, 1, 0), closed(7 * 24 * 60 - 2 * 60))],
    );
    check("Sat-Mon 00:00-24:00 UTC", &[(at(5, 0, 0), open(3 * 24 * 60)), (at(1, 0, 0), closed(4 * 24 * 60))]);
    // Spans that meet are one; the earliest of several is the next.
    check(
        "Tue,Thu 09:00-12:00, Thu 12:00-13:00, Fri 10:00-11:00 UTC",
        &[(at(3, 9, 0), open(4 * 60)), (at(1, 12, 0), closed(45 * 60)), (at(3, 13, 0), closed(21 * 60))],
    );
    check("Mon-Sun 00:00-24:00 UTC", &[(at(4, 7, 3), Opening::Open { closes: None })]);
    check("Mon-Sun 12:00-11:59 UTC", &[(at(4, 11, 59), closed(1)), (at(4, 12, 0), open(24 * 60 - 1))]);
}

#[test]
fn a_window_that_is_none_is_refused_by_the_piece_that_is_wrong() {
    let check = |text: &str, expected: WindowError| assert_eq!(Window::parse(text), Err(expected), "{text}");
    let own = str::to_owned;
    check("", WindowError::Empty);
    check("Tue 09:00-16:00", WindowError::NoZone);
    check("Tue", WindowError::NoZone);
    check("Tue 09:00-16:00 CET", WindowError::Zone(own("CET")));
    check("Tue 09:00-16:00 Europe/Berlin", WindowError::Zone(own("Europe/Berlin")));
    check("Tuesday 09:00-16:00 UTC", WindowError::Day(own("Tuesday")));
    check("Mon-Xyz 09:00-16:00 UTC", WindowError::Day(own("Xyz")));
    check("09:00-16:00 UTC", WindowError::NoDay(own("09:00-16:00")));
    check("Tue 09:00-16:00, 18:00-19:00 UTC", WindowError::NoDay(own("18:00-19:00")));
    check("Tue,Wed UTC", WindowError::NoSpan(own("Tue-Wed")));
    check("Tue 09:00 UTC", WindowError::NoSpan(own("09:00")));
    check("Tue 25:00-26:00 UTC", WindowError::Time(own("25:00")));
    check("Tue 24:00-01:00 UTC", WindowError::Time(own("24:00")));
    check("Tue 9-16 UTC", WindowError::Time(own("9")));
    check("Tue 09:60-16:00 UTC", WindowError::Time(own("09:60")));
    check("Tue 09:00-09:00 UTC", WindowError::NoTime(own("09:00-09:00")));
    check("Tue 09:00-16:00,, UTC", WindowError::Day(own("")));
}

#[test]
fn a_window_is_shown_as_it_could_be_written() {
    for (text, shown) in [
        ("Tue 09:00-16:00 UTC", "Tue 09:00-16:00 UTC"),
        ("  mon-FRI  9:00 - 16:00   UTC", "Mon-Fri 09:00-16:00 UTC"),
        ("Sat-Mon 22:00-02:00 UTC", "Mon,Sat-Sun 22:00-02:00 UTC"),
        ("Tue, Thu 09:00-12:00,Fri 00:00-24:00 UTC", "Tue,Thu 09:00-12:00, Fri 00:00-24:00 UTC"),
    ] {
        assert_eq!(Window::parse(text).unwrap().to_string(), shown);
    }
}

proptest! {
    /// What is shown reads as the same window, and its state is that of each minute looked at by itself.
    #[test]
    fn a_window_survives_its_text_and_its_next_change_is_the_first_minute_that_differs(
        entries in prop::collection::vec((1u8..128, 0u32..DAY_MINUTES, 1u32..DAY_MINUTES), 1..4),
        moment in 0u64..WEEK / MINUTE,
    ) {
        let entries: Vec<Entry> = entries
            .into_iter()
            .map(|(days, from, length)| Entry { days: Days(days), from, to: (from + length) % DAY_MINUTES })
            .collect();
        let window = Window { entries: entries.clone() };
        prop_assert_eq!(&Window::parse(&window.to_string()).unwrap(), &window);

        let week = WEEK / MINUTE;
        let is_open = |minute: u64| entries.iter().any(|entry| {
            let length = (entry.to + DAY_MINUTES - entry.from - 1) % DAY_MINUTES + 1;
            entry.days.iter().any(|day| {
                let from = day * u64::from(DAY_MINUTES) + u64::from(entry.from);
                (minute % week + week - from) % week < u64::from(length)
            })
        });
        let change = (1..week).find(|later| is_open(moment + later) != is_open(moment));
        let opening = window.opening(MONDAY + moment * MINUTE, NOW);
        let expected = match (is_open(moment), change) {
            (true, change) => Opening::Open { closes: change.map(|later| NOW.after(Duration::from_secs(later * MINUTE))) },
            (false, Some(later)) => closed(later),
            (false, None) => unreachable!("an entry is open some time"),
        };
        prop_assert_eq!(opening, expected);
    }
}
