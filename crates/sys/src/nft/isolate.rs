//! The table that cuts a host off, family `inet`: all that may still pass, and then a drop that ends by itself.
//!
//! ```text
//! in (prerouting)   loopback, allowed addresses, the manager's answers, name servers' answers, DHCP, neighbours → accept
//! out (output)      the same the other way round → accept
//! pass (forward)    nothing is accepted
//! at the end of each: meta nfproto @isolated drop
//! ```
//!
//! An isolation is for all traffic, so there is no address that could be an element with a timeout. Its elements are the
//! two protocols instead: the set `isolated` holds `ipv4` and `ipv6`, each with the time that is left, and the one rule
//! that drops looks there. When the kernel has taken them out the table accepts everything, whatever became of us.
//!
//! The chains lie at priority raw (-300), before connections are tracked: no rule about established connections, ours or
//! somebody else's, lets a packet by, so what was open before is cut as what is new is. Of TCP from the manager and the
//! name servers a packet that only begins a connection is not accepted: these may answer, and not come in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::encode::{CREATE, Family, Verdict, conclude, expression, kind, mask, message_in, value};
use super::rule::{base_chain, equals, interface_is, port_is, protocol_is, rule};
use super::{Nft, found};
use crate::netlink::{Message, NetlinkError, attribute, attributes, attributes_with_flags, messages};

/// Family `inet`.
const INET: u8 = 1;
/// Before connection tracking (-200), behind the putting together of fragments (-400).
const RAW: i32 = -300;
/// The set that the rule which drops looks into.
const SET: &str = "isolated";
/// The chains, with their hooks.
pub const CHAINS: [(&str, u32); 3] = [("in", 0), ("out", 3), ("pass", 2)];
/// Most addresses of each kind that a plan names.
pub const MAX_NAMED: usize = 64;
/// nftables' number of the type "netfilter protocol".
const NFPROTO: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const DNS: u16 = 53;

/// What may still pass, and for how long all else does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Addresses and TCP ports where the manager, or the proxy on the way to it, is.
    pub manager: Vec<SocketAddr>,
    /// Name servers that may be asked; empty where the manager needs no name.
    pub resolvers: Vec<IpAddr>,
    /// Networks, by address and prefix length, whose traffic passes both ways.
    pub allow: Vec<(IpAddr, u8)>,
    /// Milliseconds until the kernel lets go by itself; at least 1.
    pub left_ms: u64,
}

/// A direction: whose address and port of a packet are the other side's.
#[derive(Clone, Copy)]
struct Way {
    chain: &'static str,
    /// Key of `meta` for the interface: `iifname` 6, `oifname` 7.
    device: u32,
    /// Is the other side the source?
    inward: bool,
}

const WAYS: [Way; 2] = [Way { chain: "in", device: 6, inward: true }, Way { chain: "out", device: 7, inward: false }];

/// The whole table in one transaction, in place of one of this name that may be there.
pub fn install(table: &str, plan: &Plan) -> Vec<Message> {
    let mut batch = vec![new_table(table), super::encode::delete_table(table), new_table(table)];
    batch.extend(CHAINS.map(|(chain, hook)| base_chain(INET, table, chain, hook, RAW)));
    batch.push(new_set(table));
    batch.push(elements(table, plan.left_ms));
    batch.extend(rules(table, plan).into_iter().flatten());
    batch
}

/// The rules for a plan, by chain: what passes, and the one that drops.
fn rules(table: &str, plan: &Plan) -> [Vec<Message>; 3] {
    CHAINS.map(|(chain, _)| {
        let way = WAYS.into_iter().find(|way| way.chain == chain);
        let mut rules = way.map_or_else(Vec::new, |way| accepted(table, way, plan));
        rules.push(rule(INET, table, chain, |list| {
            protocol_family(list);
            expression(list, "lookup", |data| {
                data.text(1, SET).number(2, 1);
            });
            expression(list, "counter", |_| {});
            conclude(list, Verdict::Drop);
        }));
        rules
    })
}

fn new_table(table: &str) -> Message {
    let mut message = message_in(INET, format!("create table inet {table}"), kind::NEW_TABLE, CREATE);
    message.text(1, table).number(2, 0);
    message
}

fn new_set(table: &str) -> Message {
    let mut message = message_in(INET, format!("create set {SET} in table inet {table}"), kind::NEW_SET, CREATE);
    // Of protocols, one byte each, with timeouts.
    message.text(1, table).text(2, SET).number(3, 0x10).number(4, NFPROTO).number(5, 1).number(10, 1);
    message
}

fn elements(table: &str, left_ms: u64) -> Message {
    let attempt = format!("add elements to set {SET} in table inet {table}");
    let mut message = message_in(INET, attempt, kind::NEW_ELEMENTS, CREATE);
    message.text(1, table).text(2, SET).nested(3, |list| {
        for family in [Family::V4, Family::V6] {
            list.nested(1, |one| {
                value(one, 1, &[number(family)]);
                one.attribute(4, &left_ms.clamp(1, super::MAX_TIMEOUT_MS).to_be_bytes());
            });
        }
    });
    message
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn number(family: Family) -> u8 {
    if family == Family::V4 { 2 } else { 10 }
}

/// The rules of one direction that accept.
fn accepted(table: &str, way: Way, plan: &Plan) -> Vec<Message> {
    let accept = |fill: &dyn Fn(&mut Message)| {
        rule(INET, table, way.chain, |list| {
            fill(list);
            conclude(list, Verdict::Accept);
        })
    };
    let mut rules = vec![accept(&|list| interface_is(list, way.device, "lo"))];
    for (address, prefix) in plan.allow.iter().take(MAX_NAMED) {
        rules.push(accept(&|list| other_side(list, way, *address, *prefix)));
    }
    for manager in plan.manager.iter().take(MAX_NAMED) {
        rules.push(accept(&|list| answers(list, way, manager.ip(), TCP, manager.port())));
    }
    for resolver in plan.resolvers.iter().take(MAX_NAMED) {
        for protocol in [UDP, TCP] {
            rules.push(accept(&|list| answers(list, way, *resolver, protocol, DNS)));
        }
    }
    // What keeps the address of this host: DHCP (RFC 2131), and DHCPv6 (RFC 8415), whose clients speak from the link.
    rules.push(accept(&|list| {
        family_is(list, Family::V4);
        ports(list, way, 67, 68);
    }));
    rules.push(accept(&|list| {
        source(list, IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10);
        ports(list, way, 547, 546);
    }));
    // Neighbour discovery (RFC 4861), which no router passes on, and the memberships that it needs (RFC 3810).
    rules.push(accept(&|list| icmp6(list, 255, 133, 136)));
    rules.push(accept(&|list| icmp6(list, 1, 130, 132)));
    rules.push(accept(&|list| icmp6(list, 1, 143, 143)));
    if way.inward {
        // A way to the manager whose packets are smaller than ours says so by these (RFC 1191, RFC 8201).
        rules.push(accept(&|list| {
            family_is(list, Family::V4);
            protocol_is(list, ICMP);
            byte_between(list, 0, 3, 3);
        }));
        rules.push(accept(&|list| {
            family_is(list, Family::V6);
            protocol_is(list, ICMP6);
            byte_between(list, 0, 2, 2);
        }));
    }
    rules
}

/// Packets of a service at this address and port of the other side, but those by which that side begins a connection.
fn answers(list: &mut Message, way: Way, address: IpAddr, protocol: u8, port: u16) {
    other_side(list, way, address, Family::of(address).bytes() * 8);
    port_is(list, protocol, if way.inward { 0 } else { 2 }, port);
    if way.inward && protocol == TCP {
        // The byte of flags: SYN (2) without ACK (16) begins.
        transport(list, 13);
        expression(list, "bitwise", |data| {
            data.number(1, 1).number(2, 1).number(3, 1);
            value(data, 4, &[0x12]);
            value(data, 5, &[0]);
        });
        compare(list, 1, 0x02);
    }
}

/// UDP between a server's port and a client's, this host being the client.
fn ports(list: &mut Message, way: Way, server: u16, client: u16) {
    let (source, target) = if way.inward { (server, client) } else { (client, server) };
    port_is(list, UDP, 0, source);
    port_is(list, UDP, 2, target);
}

fn icmp6(list: &mut Message, hops: u8, from: u8, to: u8) {
    family_is(list, Family::V6);
    // The hop limit, a byte of the network header.
    expression(list, "payload", |data| {
        data.number(1, 1).number(2, 1).number(3, 7).number(4, 1);
    });
    equals(list, &[hops]);
    protocol_is(list, ICMP6);
    byte_between(list, 0, from, to);
}

/// A byte of the transport header lies between two.
fn byte_between(list: &mut Message, offset: u32, from: u8, to: u8) {
    transport(list, offset);
    // `NFT_CMP_GTE` is 5, `NFT_CMP_LTE` 3.
    compare(list, 5, from);
    compare(list, 3, to);
}

/// One byte of the transport header.
fn transport(list: &mut Message, offset: u32) {
    expression(list, "payload", |data| {
        data.number(1, 1).number(2, 2).number(3, offset).number(4, 1);
    });
}

fn compare(list: &mut Message, operator: u32, byte: u8) {
    expression(list, "cmp", |data| {
        data.number(1, 1).number(2, operator);
        value(data, 3, &[byte]);
    });
}

fn protocol_family(list: &mut Message) {
    expression(list, "meta", |data| {
        data.number(1, 1).number(2, 15);
    });
}

fn family_is(list: &mut Message, family: Family) {
    protocol_family(list);
    equals(list, &[number(family)]);
}

/// The other side's address lies in a network.
fn other_side(list: &mut Message, way: Way, address: IpAddr, prefix: u8) {
    if way.inward { source(list, address, prefix) } else { within(list, 16, 24, address, prefix) }
}

fn source(list: &mut Message, address: IpAddr, prefix: u8) {
    within(list, 12, 8, address, prefix);
}

/// An address of the network header, at this offset in IPv4 and that in IPv6, lies in a network.
fn within(list: &mut Message, v4: u32, v6: u32, address: IpAddr, prefix: u8) {
    let family = Family::of(address);
    let (offset, bytes) = match address {
        IpAddr::V4(address) => (v4, address.octets().to_vec()),
        IpAddr::V6(address) => (v6, address.octets().to_vec()),
    };
    let (length, mask) = (u32::from(family.bytes()), mask(family, prefix.min(family.bytes() * 8)));
    let first: Vec<u8> = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    family_is(list, family);
    expression(list, "payload", |data| {
        data.number(1, 1).number(2, 1).number(3, offset).number(4, length);
    });
    expression(list, "bitwise", |data| {
        data.number(1, 1).number(2, 1).number(3, length);
        value(data, 4, &mask);
        value(data, 5, &vec![0; mask.len()]);
    });
    equals(list, &first);
}

impl Nft {
    /// How long a table that [`install`] made still cuts its host off, in milliseconds, for both protocols. `None` where
    /// it does not: there is no such table, or its time is up for one of them.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn isolated_ms(&mut self, table: &str) -> Result<Option<u64>, NetlinkError> {
        let attempt = format!("read set {SET} of table inet {table}");
        let mut request = message_in(INET, attempt, kind::GET_ELEMENTS, 0);
        request.text(1, table).text(2, SET);
        let mut left: Vec<u64> = Vec::new();
        let read = self.socket.dump(&request, |message, all: &mut Vec<u64>| {
            let list = message.body.get(4..).and_then(|body| attribute(body, 3)).unwrap_or_default();
            all.extend(attributes(list).filter_map(|(_, one)| {
                let left = attribute(one, 5).or_else(|| attribute(one, 4))?;
                Some(u64::from_be_bytes(left.try_into().ok()?))
            }));
        });
        match read {
            Ok(found) => left.extend(found),
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok((left.len() >= 2).then(|| left.into_iter().min()).flatten().filter(|left| *left > 0))
    }

    /// Is a table awake, are its chains at their hooks, and do they hold the very rules that [`install`] puts there for this
    /// plan?
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn isolates(&mut self, table: &str, plan: &Plan) -> Result<bool, NetlinkError> {
        let mut request = message_in(INET, format!("read table inet {table}"), kind::GET_TABLE, 0);
        request.text(1, table);
        // One that sleeps has its rules and does nothing.
        let mut flags = None;
        let there = self.socket.get(&request, |message| {
            flags = message.body.get(4..).and_then(|body| attribute(body, 2)).map(<[u8]>::to_vec);
        });
        if !found(there)? || flags.is_none_or(|flags| flags != [0; 4]) {
            return Ok(false);
        }
        for ((chain, hook), wanted) in CHAINS.into_iter().zip(rules(table, plan)) {
            let mut request = message_in(INET, format!("read chain {chain} of table inet {table}"), kind::GET_CHAIN, 0);
            request.text(1, table).text(3, chain);
            let base = sent(&base_chain(INET, table, chain, hook, RAW));
            let mut at_its_hook = false;
            let there = self.socket.get(&request, |message| {
                at_its_hook = message.body.get(4..).is_some_and(|there| holds(&base, there));
            });
            if !found(there)? || !at_its_hook {
                return Ok(false);
            }
            let there = self.rules_as(table, chain, <[u8]>::to_vec)?;
            let same = |(wanted, there): (&Message, &Vec<u8>)| {
                attribute(&sent(wanted), 4).is_some_and(|wanted| same_expressions(wanted, there))
            };
            if there.len() != wanted.len() || !wanted.iter().zip(&there).all(same) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The attributes of a message of ours.
fn sent(message: &Message) -> Vec<u8> {
    let bytes = message.finish(0, 0).unwrap_or_default();
    let body = messages(&bytes).next().and_then(|message| message.body.get(4..).map(<[u8]>::to_vec));
    body.unwrap_or_default()
}

/// Is all that was sent in what the kernel lists?
fn holds(sent: &[u8], there: &[u8]) -> bool {
    attributes_with_flags(sent).all(|(kind, nested, wanted)| {
        attribute(there, kind).is_some_and(|there| if nested { holds(wanted, there) } else { wanted == there })
    })
}

/// Are the expressions of a rule those that were sent, in their order? A counter counts. Beside what was sent the kernel lists
/// what nobody asked for, as zeroes.
fn same_expressions(sent: &[u8], there: &[u8]) -> bool {
    let (sent, there): (Vec<_>, Vec<_>) = (attributes(sent).collect(), attributes(there).collect());
    let same = |((_, sent), (_, there)): (&(u16, &[u8]), &(u16, &[u8]))| {
        let part = |one, kind| attribute(one, kind).unwrap_or_default();
        let (wanted, found) = (part(sent, 2), part(there, 2));
        let asked = |kind: u16| attribute(wanted, kind).is_some();
        let silent = || attributes(found).all(|(kind, value)| asked(kind) || value.iter().all(|byte| *byte == 0));
        part(sent, 1) == part(there, 1) && (part(sent, 1) == b"counter\0" || (holds(wanted, found) && silent()))
    };
    sent.len() == there.len() && sent.iter().zip(&there).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_goes_beyond_the_bound_makes_no_rule() {
        let plan = |many: usize| Plan {
            manager: vec!["192.0.2.1:7443".parse().unwrap(); many],
            resolvers: vec!["192.0.2.53".parse().unwrap(); many],
            allow: vec![("2001:db8::1".parse().unwrap(), 128); many],
            left_ms: 1,
        };
        let count = |many| rules("t", &plan(many)).map(|rules| rules.len());
        assert_eq!(count(MAX_NAMED), count(9_000));
        assert!(count(0) < count(1));
    }

    #[test]
    fn a_rule_is_the_same_by_its_content() {
        let plan = |manager: &str| Plan {
            manager: vec![manager.parse().unwrap()],
            resolvers: Vec::new(),
            allow: Vec::new(),
            left_ms: 1,
        };
        let of = |plan: &Plan| -> Vec<Vec<u8>> {
            rules("t", plan).iter().flatten().map(|rule| attribute(&sent(rule), 4).unwrap().to_vec()).collect()
        };
        let own = of(&plan("192.0.2.1:7443"));
        let differ =
            |other: &Plan| own.iter().zip(of(other)).filter(|(one, other)| !same_expressions(one, other)).count();
        assert_eq!(differ(&plan("192.0.2.1:7443")), 0);
        for other in ["192.0.2.2:7443", "192.0.2.1:7444", "[2001:db8::1]:7443"] {
            assert_eq!(differ(&plan(other)), 2, "{other}: the way in and the way out");
        }
        // As the kernel lists them: with zeroes that nobody sent, and with counts; but not turned round.
        let rule = |inverted: u32, count: u32| {
            let rule = rule(INET, "t", "in", |list| {
                expression(list, "lookup", |data| {
                    data.text(1, SET).number(2, 1).number(5, inverted);
                });
                expression(list, "counter", |data| {
                    data.number(1, count);
                });
            });
            attribute(&sent(&rule), 4).unwrap().to_vec()
        };
        let plain = super::rule(INET, "t", "in", |list| {
            expression(list, "lookup", |data| {
                data.text(1, SET).number(2, 1);
            });
            expression(list, "counter", |_| {});
        });
        let plain = attribute(&sent(&plain), 4).unwrap().to_vec();
        assert!(same_expressions(&plain, &rule(0, 7)));
        assert!(!same_expressions(&plain, &rule(1, 7)));
    }

    proptest! {
        #[test]
        fn every_plan_makes_messages_that_can_be_sent(bits in any::<u128>(), prefix in any::<u8>(), v4 in any::<bool>(), left_ms in any::<u64>()) {
            let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
            let plan = Plan { manager: vec![SocketAddr::new(address, prefix.into())], resolvers: vec![address], allow: vec![(address, prefix)], left_ms };
            prop_assert!(install("t", &plan).iter().all(|message| message.finish(1, 0).is_ok()));
        }
    }
}
