//! The client behind trusted proxies.
//!
//! A proxy appends the address of whoever spoke to it to `X-Forwarded-For`, so the list is read from the right:
//! as long as an address is a trusted proxy's, the one to its left was written by it and is believed. The first
//! that is no trusted proxy is the client. What lies further left was sent by the client and may be forged; it is
//! not looked at. A peer that is no trusted proxy is the client himself, whatever header he sends.

use std::net::IpAddr;

use sakimori_model::{Event, Network, field};

/// Most addresses of a list that are looked at, from the right.
const MAX_HOPS: usize = 64;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The address that stands for the client.
    pub client: IpAddr,
    /// The trusted proxy through which it came, which is the peer of the connection.
    pub proxy: Option<IpAddr>,
}

/// The client of a request that came from `peer` with this `X-Forwarded-For`.
///
/// Where a trusted proxy passed on something that is no address, the client cannot be told: the furthest proxy
/// that is known stands for it.
pub fn client_behind(peer: IpAddr, header: &str, trusted: &[Network]) -> Behind {
    let peer = peer.to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_trusted(peer) {
        return Behind { client: peer, proxy: None };
    }
    let mut client = peer;
    for hop in header.rsplit(',').take(MAX_HOPS) {
        let Some(ip) = address(hop) else { break };
        client = ip;
        if !is_trusted(ip) {
            break;
        }
    }
    Behind { client, proxy: Some(peer) }
}

/// Puts the client in the place of the proxy.
pub(crate) fn apply_forwarded(event: &mut Event, header: &str, trusted: &[Network]) {
    let Some(peer) = event.ip(field::SOURCE_IP) else { return };
    let behind = client_behind(peer, header, trusted);
    let Some(proxy) = behind.proxy else { return };
    event.set(field::SOURCE_IP, behind.client);
    event.set(field::SOURCE_ADDRESS, behind.client.to_string());
    event.set(field::NETWORK_FORWARDED_IP, behind.client);
    event.set(field::SAKIMORI_PROXY_IP, proxy);
    event.push(field::RELATED_IP, behind.client);
    // The port was the proxy's.
    event.remove(field::SOURCE_PORT);
}

/// Names the network of the client of a web request, so that rules can count by it: /24, or /56 of IPv6, which is what one
/// customer gets.
pub(crate) fn name_network(event: &mut Event) {
    if event.get(field::HTTP_REQUEST_METHOD).is_none() {
        return;
    }
    let Some(client) = event.ip(field::SOURCE_IP) else { return };
    let client = client.to_canonical();
    if let Some(network) = Network::new(client, if client.is_ipv4() { 24 } else { 56 }) {
        event.set(field::SAKIMORI_CLIENT_NETWORK, network.to_string());
    }
}

/// One entry: an address, perhaps with a port, in brackets or quotation marks.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"').trim();
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if text.bytes().filter(|byte| *byte == b':').count() == 1 => text.split(':').next()?,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> Vec<Network> {
        vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()]
    }

    fn behind(peer: &str, header: &str) -> (String, Option<String>) {
        let found = client_behind(peer.parse().unwrap(), header, &trusted());
        (found.client.to_string(), found.proxy.map(|ip| ip.to_string()))
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        let proxy = Some("192.0.2.10".to_owned());
        assert_eq!(behind("192.0.2.10", "203.0.113.7"), ("203.0.113.7".into(), proxy.clone()));
        assert_eq!(behind("192.0.2.10", "203.0.113.7, 192.0.2.20"), ("203.0.113.7".into(), proxy.clone()));
        assert_eq!(behind("192.0.2.10", "2001:db8::7"), ("2001:db8::7".into(), proxy));
    }

    #[test]
    fn what_the_client_wrote_himself_is_not_believed() {
        // He sent "198.51.100.1, 192.0.2.99", the proxy appended his own address.
        assert_eq!(behind("192.0.2.10", "198.51.100.1, 192.0.2.99, 203.0.113.7").0, "203.0.113.7");
        // No proxy in front: the header is his alone.
        assert_eq!(behind("203.0.113.7", "198.51.100.1"), ("203.0.113.7".into(), None));
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        assert_eq!(behind("192.0.2.10", "203.0.113.7:4711").0, "203.0.113.7");
        assert_eq!(behind("192.0.2.10", "\"[2001:db8::7]:4711\"").0, "2001:db8::7");
        assert_eq!(
            behind("::ffff:192.0.2.10", "::ffff:203.0.113.7"),
            ("203.0.113.7".into(), Some("192.0.2.10".into()))
        );
    }

    #[test]
    fn several_hops_private_addresses_and_the_proxy_s_own_do_not_mislead() {
        for (header, client) in [
            // The proxy's own address, written by the client before it.
            ("192.0.2.10, 203.0.113.7", "203.0.113.7"),
            ("192.0.2.10, 192.0.2.10, 203.0.113.7, 192.0.2.20, 2001:db8:1::5", "203.0.113.7"),
            // Private and mapped ones, a loopback, one with a zone or a port.
            ("10.0.0.1, ::1, 203.0.113.7", "203.0.113.7"),
            ("::ffff:10.0.0.1, ::ffff:203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, fe80::1%eth0, [2001:db8::7]:443", "2001:db8::7"),
            // An internal hop that nobody named as trusted stands for itself: nothing further left is believed.
            ("198.51.100.1, 10.0.0.9", "10.0.0.9"),
            // Two headers, as servers join them.
            ("198.51.100.1, 203.0.113.7, 192.0.2.20", "203.0.113.7"),
            (",,203.0.113.7", "203.0.113.7"),
            ("203.0.113.7,", "192.0.2.10"),
        ] {
            assert_eq!(behind("192.0.2.10", header).0, client, "{header}");
        }
    }

    #[test]
    fn garbage_names_no_client() {
        assert_eq!(behind("192.0.2.10", "unknown").0, "192.0.2.10");
        assert_eq!(behind("192.0.2.10", "203.0.113.7, unknown, 192.0.2.20").0, "192.0.2.20");
        assert_eq!(behind("192.0.2.10", "").0, "192.0.2.10");
        assert_eq!(behind("192.0.2.10", &"192.0.2.1,".repeat(100_000)).0, "192.0.2.10");
    }

    proptest! {
        #[test]
        fn no_header_makes_a_stranger_of_a_direct_peer(header in ".{0,200}") {
            prop_assert_eq!(behind("203.0.113.7", &header), ("203.0.113.7".to_owned(), None));
        }

        #[test]
        fn what_stands_left_of_the_client_changes_nothing(forged in "[0-9a-f:., ]{0,80}") {
            prop_assert_eq!(behind("192.0.2.10", &format!("{forged},203.0.113.7")).0, "203.0.113.7");
        }
    }
}
