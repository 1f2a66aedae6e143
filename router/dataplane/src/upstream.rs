//! Connections to children.

/// Connections that are open and unused.
#[derive(Debug, Default)]
pub(crate) struct IdlePool {}

impl IdlePool {
    pub(crate) fn close(&self) {}
}
