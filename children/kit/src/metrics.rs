//! The metrics of a service, as text for its admin listener.

use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

/// Everything that a service counts.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Registry>,
}

impl Metrics {
    /// What `register` has put into the registry, under this prefix.
    #[must_use]
    pub fn new<T>(prefix: &str, register: impl FnOnce(&mut Registry) -> T) -> (Self, T) {
        let mut registry = Registry::with_prefix(prefix);
        let counted = register(&mut registry);
        (Self { registry: Arc::new(registry) }, counted)
    }

    /// In the Prometheus text format, without the end mark: others write behind it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        as_text_format(&text)
    }
}

/// OpenMetrics leaves `_total` out where it says what a counter is; the older text format, which is what a scraper is
/// told that this is, does not.
fn as_text_format(text: &str) -> String {
    let counters: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut written = String::with_capacity(text.len());
    for line in text.lines() {
        let about = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            counters.contains(name).then(|| format!("{mark}{name}_total {rest}"))
        });
        written.push_str(about.as_deref().unwrap_or(line));
        written.push('\n');
    }
    written
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn a_counter_is_described_under_the_name_that_it_has() {
        let (metrics, ()) = Metrics::new("a", |registry| {
            registry.register("cuts", "What was cut", Counter::<u64>::default());
            registry.register("open", "What is open", Gauge::<i64>::default());
        });
        let expected = "# HELP a_cuts_total What was cut.\n# TYPE a_cuts_total counter\na_cuts_total 0\n\
                        # HELP a_open What is open.\n# TYPE a_open gauge\na_open 0\n";
        assert_eq!(metrics.text(), expected);
    }
}
