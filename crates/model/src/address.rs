//! Networks in CIDR form, and which addresses are private.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address with a prefix length; host bits are zero. An IPv4-mapped IPv6 address is its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an address or a network like 192.0.2.0/24 or 2001:db8::/32, found \"{0}\"")]
pub struct NotANetwork(pub String);

impl Network {
    /// A network; host bits are cleared. `None` where the prefix is too long.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (address, prefix) = match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() && prefix >= 96 => (address.to_canonical(), prefix - 96),
            other => (other, prefix),
        };
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => IpAddr::V4(Ipv4Addr::from_bits(
                v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0),
            )),
            IpAddr::V6(v6) if prefix <= 128 => IpAddr::V6(Ipv6Addr::from_bits(
                v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0),
            )),
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// First address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Is it one address?
    pub fn is_host(&self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Does the address lie in it? (IPv4-mapped addresses count as IPv4.)
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Self::new(address, self.prefix).is_some_and(|network| network.address == self.address)
    }

    /// Do the two share an address?
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// With the prefix length always written: what AWS WAF wants.
    pub fn to_cidr(&self) -> String {
        format!("{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let fail = || NotANetwork(text.chars().take(64).collect());
        match text.split_once('/') {
            None => text.parse().map(Self::host).map_err(|_| fail()),
            Some((address, prefix)) => {
                let address = address.parse().map_err(|_| fail())?;
                let prefix = prefix.parse().map_err(|_| fail())?;
                Self::new(address, prefix).ok_or_else(fail)
            }
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Networks that never go into a WAF: RFC 1918, 100.64/10 (RFC 6598), loopback, link-local, unspecified,
/// multicast, broadcast, fc00::/7, and their IPv4-mapped forms. Documentation ranges count as public.
const PRIVATE: &[(IpAddr, u8)] = &[
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// Is this address, or any part of this network, private in the sense above?
pub fn is_private(network: &Network) -> bool {
    PRIVATE
        .iter()
        .filter_map(|(address, prefix)| Network::new(*address, *prefix))
        .any(|private| private.overlaps(network))
}

/// Is it a loopback, unspecified, multicast, broadcast or link-local address, which no policy may block?
pub fn is_special(network: &Network) -> bool {
    let special: &[(IpAddr, u8)] = &[
        (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
        (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
        (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
        (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    ];
    special
        .iter()
        .filter_map(|(address, prefix)| Network::new(*address, *prefix))
        .any(|reserved| reserved.overlaps(network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn private_is_what_the_issue_lists() {
        for text in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "0.0.0.0/0",
            "::/0",
            "8.0.0.0/5",
        ] {
            assert!(is_private(&network(text)), "{text}");
        }
        for text in ["203.0.113.7", "198.51.100.0/24", "2001:db8::1", "::ffff:203.0.113.7", "8.8.8.8", "172.32.0.1"] {
            assert!(!is_private(&network(text)), "{text}");
        }
    }

    #[test]
    fn host_bits_are_cleared_and_mapped_is_ipv4() {
        assert_eq!(network("192.0.2.77/24").to_string(), "192.0.2.0/24");
        assert_eq!(network("::ffff:192.0.2.1").to_cidr(), "192.0.2.1/32");
        assert_eq!(network("::ffff:192.0.2.1/120"), network("192.0.2.0/24"));
        assert!("192.0.2.1/33".parse::<Network>().is_err());
        assert!("example.com".parse::<Network>().is_err());
        assert!(network("192.0.2.0/24").contains("::ffff:192.0.2.9".parse().expect("address")));
    }

    proptest! {
        #[test]
        fn text_round_trip(bits in any::<u128>(), prefix in 0_u8..=128, v4 in any::<bool>()) {
            let network = if v4 {
                Network::new(IpAddr::V4(Ipv4Addr::from_bits(bits as u32)), prefix % 33)
            } else {
                Network::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix)
            }.expect("prefix fits");
            prop_assert_eq!(network.to_string().parse::<Network>(), Ok(network));
            prop_assert!(network.contains(network.address()));
        }
    }
}
