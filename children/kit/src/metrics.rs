//! The metrics of a service, as text for its admin listener.

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
        text
    }
}
