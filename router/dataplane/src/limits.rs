//! What is counted against the limits of a plane: requests in flight, and connections by address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::plane::Shared;

#[derive(Default)]
pub(crate) struct Counted {
    inflight: AtomicUsize,
    addresses: Mutex<BTreeMap<IpAddr, u32>>,
}

impl Counted {
    pub(crate) fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }
}

/// One of the requests in flight, from its head to the end of its response.
pub(crate) struct InFlight(Arc<Shared>);

impl InFlight {
    /// `None` when there are as many as may be.
    pub(crate) fn begin(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.counted.inflight.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared.clone());
        (before < shared.config.limits.inflight).then_some(place)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counted.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the connections from an address.
pub(crate) struct FromAddress {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl FromAddress {
    /// `None` when there are as many as may be.
    pub(crate) fn begin(shared: &Arc<Shared>, address: IpAddr, most: u32) -> Option<Self> {
        let address = address.to_canonical();
        let mut addresses = shared.counted.addresses.lock();
        let open = addresses.entry(address).or_default();
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Self { shared: shared.clone(), address })
    }
}

impl Drop for FromAddress {
    fn drop(&mut self) {
        let mut addresses = self.shared.counted.addresses.lock();
        if let Some(open) = addresses.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}
