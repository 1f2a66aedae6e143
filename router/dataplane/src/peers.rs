//! Ranges of addresses: which peers are believed.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Why a range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a range such as 10.0.0.0/8")]
pub struct RangeError(String);

/// One range, `10.0.0.0/8`. An IPv4 address in IPv6 clothes counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerRange {
    address: IpAddr,
    prefix: u8,
}

impl PeerRange {
    /// Whether an address lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let mask = |bits: u128, width: u32| {
            let keep = width.saturating_sub(u32::from(self.prefix));
            bits.checked_shr(keep).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                mask(u128::from(own.to_bits()), 32) == mask(u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => mask(own.to_bits(), 128) == mask(other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for PeerRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let refuse = || RangeError(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address = address.parse::<IpAddr>().map_err(|_| refuse())?.to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), str::parse).map_err(|_| refuse())?;
        if prefix > width { Err(refuse()) } else { Ok(Self { address, prefix }) }
    }
}

/// Several ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerRanges(pub Vec<PeerRange>);

impl PeerRanges {
    /// No peer at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Loopback, private and link-local addresses.
    #[must_use]
    pub fn private() -> Self {
        let v4 = |a, b, prefix| PeerRange { address: IpAddr::from([a, b, 0, 0]), prefix };
        let v6 =
            |first: u16, prefix| PeerRange { address: Ipv6Addr::from([first, 0, 0, 0, 0, 0, 0, 0]).into(), prefix };
        let loopback = PeerRange { address: Ipv6Addr::LOCALHOST.into(), prefix: 128 };
        Self(vec![
            v4(127, 0, 8),
            v4(10, 0, 8),
            v4(172, 16, 12),
            v4(192, 168, 16),
            v4(169, 254, 16),
            loopback,
            v6(0xfc00, 7),
            v6(0xfe80, 10),
        ])
    }

    /// Whether an address lies in one of the ranges.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        for (range, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.8", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "2001:db8::1", true),
        ] {
            let range: PeerRange = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{range:?} {address}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "host", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<PeerRange>().is_err(), "{text}");
        }
        assert!(PeerRanges::private().contains("172.31.0.1".parse().unwrap()));
        assert!(!PeerRanges::private().contains("172.32.0.1".parse().unwrap()));
        assert!(!PeerRanges::private().contains("1.1.1.1".parse().unwrap()));
    }
}
