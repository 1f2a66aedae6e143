//! Where an IP address leads: out into the world, to this machine, into a network of the operator's, or
//! somewhere from which no catalog and no artifact ever comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Public,
    /// This machine.
    Loopback,
    /// Reached only from inside somebody's network.
    Private,
    /// Link-local, metadata services, multicast, and what is assigned to nobody.
    Never,
}

/// Where `ip` leads. An address that carries another one in it leads where that one does.
#[must_use]
pub fn scope(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        // 100.100.100.200 and 192.0.0.192 are metadata services that are not link-local.
        [0 | 224..=255, ..] | [169, 254, ..] | [192, 0, 0, _] | [100, 100, 100, 200] => Scope::Never,
        [127, ..] => Scope::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Scope::Private,
        // For measurements and for examples in texts.
        [198, 18 | 19, ..] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Scope::Private,
        _ => Scope::Public,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        match scope_v4(Ipv4Addr::new(a, b, c, d)) {
            Scope::Public => Scope::Public,
            Scope::Private => Scope::Private,
            Scope::Loopback | Scope::Never => Scope::Never,
        }
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        // The unspecified address, and IPv4 in its oldest clothes.
        [0, 0, 0, 0, 0, 0, _, _] => Scope::Never,
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Scope::Private,
        // Tunnels to anywhere, the discard prefix, examples, and the metadata service of one cloud.
        [0x2001, 0, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0xdb8, ..] => Scope::Never,
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Scope::Never,
        [0xfe80..=0xfebf | 0xff00..=0xffff, ..] => Scope::Never,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Scope::Private,
        _ => Scope::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F70: every way of writing an address that points inward.
    #[test]
    fn f70_each_address_leads_where_it_leads() {
        let table: [(Scope, &[&str]); 4] = [
            (Scope::Public, &["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111"]),
            (Scope::Loopback, &["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"]),
            (
                Scope::Private,
                &[
                    "10.1.2.3",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                    "fd00::1",
                    "fec0::1",
                    "::ffff:10.0.0.1",
                    "64:ff9b::a00:1",
                    "2002:c0a8:101::1",
                    "64:ff9b:1::1",
                    "198.18.0.1",
                ],
            ),
            (
                Scope::Never,
                &[
                    "169.254.169.254",
                    "0.0.0.0",
                    "0.1.2.3",
                    "255.255.255.255",
                    "224.0.0.1",
                    "240.0.0.1",
                    "100.100.100.200",
                    "192.0.0.192",
                    "::",
                    "::127.0.0.1",
                    "fe80::1",
                    "ff02::1",
                    "fd00:ec2::254",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "2002:7f00:1::1",
                    "2001:0:53aa::1",
                    "2001:db8::1",
                ],
            ),
        ];
        for (expected, addresses) in table {
            for address in addresses {
                assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
            }
        }
        assert_eq!(scope("64:ff9b::808:808".parse().unwrap()), Scope::Public);
    }
}
