//! The rules that send packets to a queue and carry out what the queue's reader marked on them (D12).
//!
//! Two tables of one name, family `ip` and `ip6`, each with a pair of chains at the hooks input, output and forward:
//!
//! ```text
//! <hook> (priority 10)                          <hook>-marks (priority 11)
//!   connection marked drop → drop                 no mark on the packet → accept
//!   connection marked done → accept               what is for the connection → onto the connection
//!   replies done, and a reply → accept            drop → drop
//!   far from their end, and one acknowledgement   reject → RST, or ICMP where it is no TCP
//!     of too many in a second → accept            the mark leaves the packet
//!   ports that are left out, loopback → accept
//!   queue
//! ```
//!
//! The reader of the queue answers "accept" and says by three bits of the packet's mark what else is to happen. So the
//! kernel itself resets connections, and keeps flows that need no more inspection out of the queue; no process needs a
//! raw socket for it, and a flow that was dropped stays dropped when the reader has forgotten it. Only these bits of
//! marks are ever read or written.
//!
//! Where the kernel has no `queue` expression, the xtables target `NFQUEUE` stands in for it (`linux/netfilter/
//! nf_tables_compat.h`, `xt_NFQUEUE.h`, revision 3). Where it has no `limit`, every acknowledgement is queued.

use super::encode::{CREATE, Verdict, conclude, expression, kind, message_in, value};
use super::queue_form::{Form, to_queue};
use super::rule::{
    bare_acknowledgement, base_chain, beyond, connection_mark, equals, interface_is, masked, packet_mark, port_is,
    protocol_is, replaced, rule,
};
use super::{Nft, found, text};
use crate::netlink::{Message, NetlinkError, attribute, attributes};

/// Families of the two tables: `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub const FAMILIES: [u8; 2] = [2, 10];
/// Hooks and the names of their chains.
const HOOKS: [(u32, &str); 3] = [(1, "input"), (2, "forward"), (3, "output")];
/// Behind the user's own filters, before source translation of replies (100).
const PRIORITY: i32 = 10;
/// Most ports, and most interfaces, that a configuration names.
pub const MAX_NAMED: usize = 64;
/// Most queues.
pub const MAX_QUEUES: u16 = 64;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Three bits of packet and connection marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    shift: u8,
}

/// What the three bits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing needs inspection any more.
    Done = 1,
    /// Replies need none until further notice.
    RepliesDone = 2,
    /// Drop this packet and all others of its connection.
    DropFlow = 3,
    /// Refuse this packet: reset or ICMP to its sender.
    Reject = 4,
    /// Replies need inspection again.
    Inspect = 5,
    /// As [`Mark::RepliesDone`], and their end is far: of acknowledgements that bring nothing else some are enough.
    RepliesFar = 6,
}

/// The bits that both marks of replies that need no inspection have in common, and what stands in them.
const REPLIES: [u32; 2] = [3, 2];

impl Marks {
    /// Bits `shift` to `shift + 2`; at most 29.
    pub fn at(shift: u8) -> Option<Self> {
        (shift <= 29).then_some(Self { shift })
    }

    /// All three.
    pub fn mask(self) -> u32 {
        7 << self.shift
    }

    /// A mark with this in its three bits and the others as they were.
    pub fn put(self, before: u32, mark: Mark) -> u32 {
        (before & !self.mask()) | self.value(mark)
    }

    fn value(self, mark: Mark) -> u32 {
        (mark as u32) << self.shift
    }
}

/// What is sent to which queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// First queue's number.
    pub first: u16,
    /// How many; a connection stays with one.
    pub queues: u16,
    /// Accept where nobody reads the queue; drop otherwise.
    pub open: bool,
    /// Bits of marks.
    pub marks: Marks,
    /// Interfaces whose packets are inspected; empty: all but the loopback device.
    pub interfaces: Vec<String>,
    /// Ports of TCP and UDP that are inspected, at either end; empty: all, and other protocols.
    pub ports: Vec<u16>,
    /// Acknowledgements a second that are queued of all connections whose replies are far from their end.
    pub acknowledgements: u32,
    /// Own ports of this host that are never inspected, so that they stay reachable whatever happens.
    pub except_ports: Vec<u16>,
    /// A TCP port of the loopback device that is inspected as it comes in, for a probe of the whole way.
    pub probe: Option<u16>,
}

/// Packets and bytes that a rule counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What the kernel did by itself, by the marks of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypassed {
    /// Dropped.
    pub dropped: Counted,
    /// Let through without the queue.
    pub accepted: Counted,
}

/// Tables, chains and rules in one transaction: what was there of this name in our chains is replaced whole.
pub fn install(table: &str, plan: &Plan, form: Form) -> Vec<Message> {
    let mut batch = Vec::new();
    for family in FAMILIES {
        let mut message = message_in(family, format!("create table {table}"), kind::NEW_TABLE, CREATE);
        message.text(1, table).number(2, 0);
        batch.push(message);
        for (hook, name) in HOOKS {
            for (chain, priority) in [(name.to_owned(), PRIORITY), (marks_chain(name), PRIORITY + 1)] {
                batch.push(base_chain(family, table, &chain, hook, priority));
                let mut flush =
                    message_in(family, format!("empty chain {chain} in table {table}"), kind::DELETE_RULE, 0);
                flush.text(1, table).text(2, &chain);
                batch.push(flush);
            }
            batch.extend(queue_rules(family, table, hook, name, plan, form));
            batch.extend(mark_rules(family, table, name, plan.marks));
        }
    }
    batch
}

/// Takes both tables away with all that is in them; one that is missing makes the batch fail.
pub fn remove(table: &str, family: u8) -> Message {
    let mut message = message_in(family, format!("delete table {table}"), kind::DELETE_TABLE, 0);
    message.text(1, table);
    message
}

fn marks_chain(hook: &str) -> String {
    format!("{hook}-marks")
}

fn queue_rules(family: u8, table: &str, hook: u32, chain: &str, plan: &Plan, form: Form) -> Vec<Message> {
    let marks = plan.marks;
    let rule = |fill: &dyn Fn(&mut Message)| rule(family, table, chain, fill);
    let connection = |list: &mut Message, mark: Mark| {
        connection_mark(list);
        masked(list, marks.mask());
        equals(list, &marks.value(mark).to_ne_bytes());
    };
    let settled = |list: &mut Message, verdict: Verdict| {
        expression(list, "counter", |_| {});
        conclude(list, verdict);
    };
    let mut rules = vec![
        rule(&|list| {
            connection(list, Mark::DropFlow);
            settled(list, Verdict::Drop);
        }),
        rule(&|list| {
            connection(list, Mark::Done);
            settled(list, Verdict::Accept);
        }),
        rule(&|list| {
            connection_mark(list);
            let [both, replies] = REPLIES.map(|bits| bits << marks.shift);
            masked(list, both);
            equals(list, &replies.to_ne_bytes());
            // `ct direction`: 1 is the direction of replies.
            expression(list, "ct", |data| {
                data.number(1, 1).number(2, 1);
            });
            equals(list, &[1]);
            settled(list, Verdict::Accept);
        }),
    ];
    // With the time stamps that nearly every TCP sends, and without.
    for header in [32, 20].into_iter().filter(|_| form.some) {
        rules.push(rule(&|list| {
            connection(list, Mark::RepliesFar);
            bare_acknowledgement(list, family, header);
            beyond(list, plan.acknowledgements);
            settled(list, Verdict::Accept);
        }));
    }
    for (port, offset) in plan.probe.iter().flat_map(|port| [(*port, 0), (*port, 2)]) {
        // What goes out of the loopback device comes in by it: one look is enough.
        for key in devices(hook).iter().filter(|_| hook != 2) {
            rules.push(rule(&|list| {
                interface_is(list, *key, "lo");
                port_is(list, TCP, offset, port);
                match hook {
                    1 => to_queue(list, form, plan.first, plan.queues.clamp(1, MAX_QUEUES), plan.open),
                    _ => conclude(list, Verdict::Accept),
                }
            }));
        }
    }
    for port in plan.except_ports.iter().take(MAX_NAMED) {
        // This host's own end only: a remote one may call itself from any port.
        for (protocol, offset) in ends().filter(|(_, offset)| matches!((hook, offset), (1, 2) | (3, 0))) {
            rules.push(rule(&|list| {
                port_is(list, protocol, offset, *port);
                conclude(list, Verdict::Accept);
            }));
        }
    }
    if hook == 3 {
        rules.extend(own_refusals(family).map(|fill| rule(&fill)));
    }
    let devices = devices(hook);
    if plan.interfaces.is_empty() {
        for key in devices.iter().filter(|_| hook != 2) {
            rules.push(rule(&|list| {
                interface_is(list, *key, "lo");
                conclude(list, Verdict::Accept);
            }));
        }
    }
    let mut wanted: Vec<Option<(u32, &str)>> = Vec::new();
    for name in plan.interfaces.iter().take(MAX_NAMED) {
        wanted.extend(devices.iter().map(|key| Some((*key, name.as_str()))));
    }
    if wanted.is_empty() {
        wanted.push(None);
    }
    for device in wanted {
        let queue = |list: &mut Message, port: Option<(u8, u32, u16)>| {
            if let Some((key, name)) = device {
                interface_is(list, key, name);
            }
            if let Some((protocol, offset, port)) = port {
                port_is(list, protocol, offset, port);
            }
            to_queue(list, form, plan.first, plan.queues.clamp(1, MAX_QUEUES), plan.open);
        };
        if plan.ports.is_empty() {
            rules.push(rule(&|list| queue(list, None)));
        }
        for port in plan.ports.iter().take(MAX_NAMED) {
            for (protocol, offset) in ends() {
                rules.push(rule(&|list| queue(list, Some((protocol, offset, *port)))));
            }
        }
    }
    rules
}

fn mark_rules(family: u8, table: &str, hook: &str, marks: Marks) -> Vec<Message> {
    let chain = marks_chain(hook);
    let rule = |fill: &dyn Fn(&mut Message)| rule(family, table, &chain, fill);
    let packet = |list: &mut Message, bits: u32| {
        packet_mark(list);
        masked(list, marks.mask());
        equals(list, &bits.to_ne_bytes());
    };
    let mut rules = vec![rule(&|list| {
        packet(list, 0);
        conclude(list, Verdict::Accept);
    })];
    for mark in [Mark::Done, Mark::RepliesDone, Mark::RepliesFar, Mark::DropFlow, Mark::Inspect] {
        rules.push(rule(&|list| {
            packet(list, marks.value(mark));
            let bits = if mark == Mark::Inspect { 0 } else { marks.value(mark) };
            connection_mark(list);
            replaced(list, marks.mask(), bits);
            // `ct mark set` from register 1.
            expression(list, "ct", |data| {
                data.number(2, 3).number(4, 1);
            });
            if mark == Mark::DropFlow {
                expression(list, "counter", |_| {});
                conclude(list, Verdict::Drop);
            }
        }));
    }
    rules.push(rule(&|list| {
        packet(list, marks.value(Mark::Reject));
        protocol_is(list, TCP);
        // A TCP reset.
        expression(list, "reject", |data| {
            data.number(1, 1);
        });
    }));
    rules.push(rule(&|list| {
        packet(list, marks.value(Mark::Reject));
        // "Administratively prohibited" of either version (RFC 1812, RFC 4443).
        let code = if family == 2 { 13 } else { 1 };
        expression(list, "reject", |data| {
            data.number(1, 0).attribute(2, &[code]);
        });
    }));
    rules.push(rule(&|list| {
        packet_mark(list);
        replaced(list, marks.mask(), 0);
        expression(list, "meta", |data| {
            data.number(2, 3).number(3, 1);
        });
    }));
    rules
}

/// A refusal of ours belongs to the connection that it refuses, which the kernel may not have confirmed yet: it would be
/// lost in a queue. So resets and ICMP errors that this host makes about a connection go by the queue; they hold
/// nothing that was not inspected.
fn own_refusals(family: u8) -> [impl Fn(&mut Message); 2] {
    const ICMP: [u8; 2] = [1, 58];
    [TCP, if family == 2 { ICMP[0] } else { ICMP[1] }].map(|protocol| {
        move |list: &mut Message| {
            // `ct state`: 4 is related.
            expression(list, "ct", |data| {
                data.number(1, 1).number(2, 0);
            });
            masked(list, 4);
            equals(list, &4_u32.to_ne_bytes());
            protocol_is(list, protocol);
            if protocol == TCP {
                // The byte of flags, and in it the reset.
                expression(list, "payload", |data| {
                    data.number(1, 1).number(2, 2).number(3, 13).number(4, 1);
                });
                expression(list, "bitwise", |data| {
                    data.number(1, 1).number(2, 1).number(3, 1);
                    value(data, 4, &[4]);
                    value(data, 5, &[0]);
                });
                equals(list, &[4]);
            }
            conclude(list, Verdict::Accept);
        }
    })
}

/// Source and destination port, of TCP and UDP.
fn ends() -> impl Iterator<Item = (u8, u32)> {
    [(TCP, 0), (TCP, 2), (UDP, 0), (UDP, 2)].into_iter()
}

/// Keys of `meta` for the interfaces that a hook knows: `iifname` 6, `oifname` 7.
fn devices(hook: u32) -> &'static [u32] {
    match hook {
        1 => &[6],
        3 => &[7],
        _ => &[6, 7],
    }
}

impl Nft {
    /// Is there a table of this name in this family?
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn has_table_in(&mut self, family: u8, table: &str) -> Result<bool, NetlinkError> {
        let mut request = message_in(family, format!("read table {table}"), kind::GET_TABLE, 0);
        request.text(1, table);
        found(self.socket.get(&request, |_| {}))
    }

    /// The chains of a table of this family.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn chains_in(&mut self, family: u8, table: &str) -> Result<Vec<String>, NetlinkError> {
        let request = message_in(family, format!("list the chains of table {table}"), kind::GET_CHAIN, 0);
        self.socket.dump(&request, |message, all| {
            let Some(body) = message.body.get(4..) else { return };
            if text(attribute(body, 1)).as_deref() == Some(table) {
                all.extend(text(attribute(body, 3)));
            }
        })
    }

    /// What connections' marks decided without the queue, in both families.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn bypassed(&mut self, table: &str) -> Result<Bypassed, NetlinkError> {
        let mut sum = Bypassed::default();
        for family in FAMILIES {
            for (_, chain) in HOOKS {
                for (at, counted) in self.counters(family, table, chain)?.into_iter().enumerate() {
                    let to = if at == 0 { &mut sum.dropped } else { &mut sum.accepted };
                    to.packets = to.packets.saturating_add(counted.packets);
                    to.bytes = to.bytes.saturating_add(counted.bytes);
                }
            }
        }
        Ok(sum)
    }

    /// The counters of a chain's rules, in their order.
    fn counters(&mut self, family: u8, table: &str, chain: &str) -> Result<Vec<Counted>, NetlinkError> {
        let attempt = format!("read the counters of chain {chain} in table {table}");
        let mut request = message_in(family, attempt, kind::GET_RULE, 0);
        request.text(1, table).text(2, chain);
        let counters = self.socket.dump(&request, |message, all| {
            let expressions = message.body.get(4..).and_then(|body| attribute(body, 4)).unwrap_or_default();
            all.extend(attributes(expressions).filter_map(|(_, one)| counter(one)));
        });
        match counters {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }
}

/// The figures of an expression, if it is a counter.
fn counter(expression: &[u8]) -> Option<Counted> {
    if text(attribute(expression, 1)).as_deref() != Some("counter") {
        return None;
    }
    let data = attribute(expression, 2)?;
    let figure = |kind| Some(u64::from_be_bytes(attribute(data, kind)?.try_into().ok()?));
    Some(Counted { bytes: figure(1)?, packets: figure(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_leave_other_bits_alone() {
        let marks = Marks::at(28).unwrap();
        assert_eq!(marks.mask(), 0x7000_0000);
        assert_eq!(marks.put(0x8000_0001, Mark::Inspect), 0xd000_0001);
        assert_eq!(marks.put(0x7000_0000, Mark::Done), 0x1000_0000);
        assert!(Marks::at(30).is_none());
        let replies = |mark: Mark| mark as u32 & REPLIES[0] == REPLIES[1];
        let all = [Mark::Done, Mark::RepliesDone, Mark::DropFlow, Mark::Reject, Mark::Inspect, Mark::RepliesFar];
        assert_eq!(all.map(replies), [false, true, false, false, false, true]);
    }

    #[test]
    fn names_beyond_the_bound_make_no_rule() {
        let plan = |ports: Vec<u16>, interfaces: Vec<String>| Plan {
            first: 0,
            queues: 1,
            open: false,
            marks: Marks::at(0).unwrap(),
            interfaces,
            ports,
            acknowledgements: 1,
            except_ports: Vec::new(),
            probe: None,
        };
        let most = queue_rules(
            2,
            "t",
            1,
            "input",
            &plan((0..64).collect(), vec!["a".into()]),
            Form { native: true, some: true },
        )
        .len();
        let more = queue_rules(
            2,
            "t",
            1,
            "input",
            &plan((0..9_000).collect(), vec!["a".into()]),
            Form { native: true, some: true },
        )
        .len();
        assert_eq!(most, more);
    }
}
