//! A rollout window: whether a change may begin now, and when that changes.
//!
//! A window is the union of its entries, each some days of the week and one span of the day, in UTC. Lives
//! here: its grammar, and its state at a moment. Must not live here: a clock, or what a slot does about it
//! (that is `plan`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use supervisor_protocol::Tick;

/// Whether a rollout window is open, as the slot machine takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Opening {
    /// `None` where there is no window, so that it never closes.
    Open {
        closes: Option<Tick>,
    },
    Closed {
        opens: Tick,
    },
}

/// When changes may begin: `Tue 09:00-16:00 UTC`, `Mon-Fri 22:00-02:00 UTC`, and lists of such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    entries: Vec<Entry>,
}

/// Why a window was refused. The piece that was not understood is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("a window is days, a span of the day and UTC, as in `Mon-Fri 09:00-16:00 UTC`; it is empty")]
    Empty,
    #[error("{0:?} is no day: they are Mon, Tue, Wed, Thu, Fri, Sat and Sun")]
    Day(String),
    #[error("{0:?} names no day: every day is Mon-Sun")]
    NoDay(String),
    #[error("{0:?} has no span of the day, as in `09:00-16:00`")]
    NoSpan(String),
    #[error("{0:?} is no time: they are 00:00 to 23:59, and 24:00 as an end")]
    Time(String),
    #[error("{0:?} opens and closes at the same moment; a whole day is 00:00-24:00")]
    NoTime(String),
    #[error("a window ends with its time zone, which is UTC")]
    NoZone,
    #[error("{0:?} is not available: the only time zone is UTC")]
    Zone(String),
}

/// One span on some days. It may end on the day after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    days: Days,
    /// Minutes of the day; the end is not included, and lies on the next day where it is not above the start.
    from: u32,
    to: u32,
}

/// Days of the week, one bit each, from Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Days(u8);

const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
const WEEK: u64 = 7 * DAY;
const DAY_MINUTES: u32 = 24 * 60;
/// The first of January 1970 was a Thursday: so much of its week had passed.
const WEEK_AT_EPOCH: u64 = 3 * DAY;

// === impl Window ===

impl Window {
    /// Reads a window. Days, and entries, are separated by commas; only UTC is a time zone.
    pub fn parse(text: &str) -> Result<Window, WindowError> {
        let text = text.trim();
        let spans = match text.rsplit_once(char::is_whitespace) {
            _ if text.is_empty() => return Err(WindowError::Empty),
            Some((spans, "UTC")) => spans,
            Some((_, last)) if last.bytes().all(|byte| !byte.is_ascii_digit()) => {
                return Err(WindowError::Zone(last.to_owned()));
            }
            Some(_) | None => return Err(WindowError::NoZone),
        };
        let (mut entries, mut days) = (Vec::new(), Days(0));
        for piece in spans.split(',').map(str::trim) {
            let (named, span) = match piece.split_once(char::is_whitespace) {
                Some((named, span)) => (named, Some(span.trim())),
                None if piece.contains(':') => return Err(WindowError::NoDay(piece.to_owned())),
                None => (piece, None),
            };
            days = days.and(Days::parse(named)?);
            if let Some(span) = span {
                entries.push(Entry::parse(std::mem::replace(&mut days, Days(0)), span)?);
            }
        }
        if days == Days(0) { Ok(Window { entries }) } else { Err(WindowError::NoSpan(days.to_string())) }
    }

    /// Its state at the moment that is `unix_now` seconds after 1970 by the wall clock, and `now` by the clock
    /// of the deadlines.
    #[must_use]
    pub fn opening(&self, unix_now: u64, now: Tick) -> Opening {
        let at = (unix_now + WEEK_AT_EPOCH) % WEEK;
        let after = |seconds: u64| now.after(Duration::from_secs(seconds));
        let mut closes = at;
        // Where one span ends another may go on.
        while let Some(end) = self.spans().find(|(from, to)| *from <= closes && closes < *to).map(|(_, to)| to) {
            closes = end;
            if closes - at >= WEEK {
                return Opening::Open { closes: None };
            }
        }
        if closes > at {
            return Opening::Open { closes: Some(after(closes - at)) };
        }
        let next = self.spans().filter(|(from, _)| *from > at).map(|(from, _)| from - at).min();
        // There is an entry, hence a next opening within a week.
        Opening::Closed { opens: after(next.unwrap_or(WEEK)) }
    }

    /// Every span of three weeks, in seconds from the Monday of the middle one, which is the week asked about:
    /// spans of the week before may reach into it, and those of the next follow on. Negative starts are cut.
    fn spans(&self) -> impl Iterator<Item = (u64, u64)> {
        let of_week = |week: u64| self.entries.iter().flat_map(Entry::spans).map(move |(a, b)| (a + week, b + week));
        [0, WEEK, 2 * WEEK]
            .into_iter()
            .flat_map(of_week)
            .filter(|(_, to)| *to > WEEK)
            .map(|(from, to)| (from.saturating_sub(WEEK), to - WEEK))
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Window, WindowError> {
        Window::parse(text)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, entry) in self.entries.iter().enumerate() {
            let time = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}-{}", entry.days, time(entry.from), time(entry.to))?;
        }
        f.write_str(" UTC")
    }
}

// === impl Entry ===

impl Entry {
    fn parse(days: Days, span: &str) -> Result<Entry, WindowError> {
        let (from, to) = span.split_once('-').ok_or_else(|| WindowError::NoSpan(span.to_owned()))?;
        let (from_minute, to_minute) = (minute(from.trim())?, minute(to.trim())?);
        if from_minute == DAY_MINUTES {
            return Err(WindowError::Time(from.trim().to_owned()));
        }
        if from_minute == to_minute {
            return Err(WindowError::NoTime(span.to_owned()));
        }
        Ok(Entry { days, from: from_minute, to: to_minute })
    }

    /// Start and end of each day's span, in seconds from Monday.
    fn spans(&self) -> impl Iterator<Item = (u64, u64)> {
        let to = if self.to > self.from { self.to } else { self.to + DAY_MINUTES };
        let (from, to) = (u64::from(self.from) * MINUTE, u64::from(to) * MINUTE);
        self.days.iter().map(move |day| (day * DAY + from, day * DAY + to))
    }
}

fn minute(text: &str) -> Result<u32, WindowError> {
    let refuse = || WindowError::Time(text.to_owned());
    let number = |digits: &str| match digits.len() {
        1 | 2 if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<u32>().map_err(|_| refuse()),
        _ => Err(refuse()),
    };
    let (hours, minutes) = text.split_once(':').filter(|(_, minutes)| minutes.len() == 2).ok_or_else(refuse)?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let whole = hours * 60 + minutes;
    if minutes < 60 && whole <= DAY_MINUTES { Ok(whole) } else { Err(refuse()) }
}

// === impl Days ===

impl Days {
    /// `Tue`, or `Mon-Fri`, which may go over the end of the week.
    fn parse(text: &str) -> Result<Days, WindowError> {
        let day = |name: &str| {
            let known = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
            known.ok_or_else(|| WindowError::Day(name.to_owned()))
        };
        let Some((first, last)) = text.split_once('-') else { return Ok(Days(1 << day(text)?)) };
        let (first, last) = (day(first)?, day(last)?);
        let length = (last + NAMES.len() - first) % NAMES.len();
        Ok((0..=length).fold(Days(0), |days, n| days.and(Days(1 << ((first + n) % NAMES.len())))))
    }

    const fn and(self, other: Days) -> Days {
        Days(self.0 | other.0)
    }

    /// Counted from Monday.
    fn iter(self) -> impl Iterator<Item = u64> {
        (0..7).filter(move |day| self.0 & (1 << day) != 0)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |day: usize| day < NAMES.len() && self.0 & (1 << day) != 0;
        let (mut day, mut comma) = (0, "");
        while day < NAMES.len() {
            if has(day) {
                let first = day;
                while has(day + 1) {
                    day += 1;
                }
                match NAMES[first..=day] {
                    [only] => write!(f, "{comma}{only}")?,
                    [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                    [] => {}
                }
                comma = ",";
            }
            day += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
