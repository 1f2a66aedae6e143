//! Stream classes: what kind of work a lease stands for, and so how long a drain waits for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of one lease. It is [`StreamClass::Request`] until the response head arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StreamClass {
    /// An ordinary exchange.
    Request,
    /// `text/event-stream`, `application/grpc*`, or a route that says so.
    Stream,
    /// A connection after `101 Switching Protocols` or an accepted extended CONNECT.
    Upgrade,
    /// Work that a configured route declares to be a job.
    Job,
}

impl StreamClass {
    /// Every class, in the order in which reports list them.
    pub const ALL: [StreamClass; 4] =
        [StreamClass::Request, StreamClass::Stream, StreamClass::Upgrade, StreamClass::Job];

    /// The wire name, also the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StreamClass::Request => "request",
            StreamClass::Stream => "stream",
            StreamClass::Upgrade => "upgrade",
            StreamClass::Job => "job",
        }
    }

    /// The class that a response's `Content-Type` implies.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> StreamClass {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |prefix: &str| essence.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
        if essence.eq_ignore_ascii_case("text/event-stream") || is("application/grpc") {
            StreamClass::Stream
        } else {
            StreamClass::Request
        }
    }
}

impl fmt::Display for StreamClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value per stream class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(bound = "T: schemars::JsonSchema + Default + Serialize")
)]
#[serde(default, deny_unknown_fields)]
pub struct ByClass<T> {
    pub request: T,
    pub stream: T,
    pub upgrade: T,
    pub job: T,
}

impl<T> ByClass<T> {
    /// The value of one class.
    pub fn get(&self, class: StreamClass) -> &T {
        match class {
            StreamClass::Request => &self.request,
            StreamClass::Stream => &self.stream,
            StreamClass::Upgrade => &self.upgrade,
            StreamClass::Job => &self.job,
        }
    }

    /// The value of one class, to change.
    pub fn get_mut(&mut self, class: StreamClass) -> &mut T {
        match class {
            StreamClass::Request => &mut self.request,
            StreamClass::Stream => &mut self.stream,
            StreamClass::Upgrade => &mut self.upgrade,
            StreamClass::Job => &mut self.job,
        }
    }

    /// The same shape with `f` applied to each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> ByClass<U> {
        ByClass { request: f(self.request), stream: f(self.stream), upgrade: f(self.upgrade), job: f(self.job) }
    }
}

impl ByClass<u64> {
    /// The sum over all classes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.request + self.stream + self.upgrade + self.job
    }

    /// Adds another count, class by class.
    pub fn add(&mut self, other: &ByClass<u64>) {
        for class in StreamClass::ALL {
            *self.get_mut(class) += *other.get(class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_decides_between_request_and_stream() {
        for (content_type, class) in [
            ("text/event-stream", StreamClass::Stream),
            ("Text/Event-Stream; charset=utf-8", StreamClass::Stream),
            ("application/grpc+proto", StreamClass::Stream),
            ("application/json", StreamClass::Request),
            ("text/event-streams", StreamClass::Request),
            ("", StreamClass::Request),
        ] {
            assert_eq!(StreamClass::of_content_type(content_type), class, "{content_type}");
        }
    }
}
