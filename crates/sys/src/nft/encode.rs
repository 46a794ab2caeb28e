//! nf_tables messages: our changes as the kernel wants them (`linux/netfilter/nf_tables.h`).
//!
//! Only what blocking by address needs: a table of family `inet`, hash sets of addresses, one chain, rules of the form
//! `ip saddr & mask @set verdict`, elements with a timeout. Numbers are in network order.

use std::net::IpAddr;

use crate::netlink::{MAX_VALUE, Message};

/// Family `inet`: IPv4 and IPv6 in one table.
const INET: u8 = 1;
const SUBSYSTEM: u16 = 10 << 8;
/// Create where it is missing.
pub(super) const CREATE: u16 = 0x400;
/// Behind the rules that are there.
pub(super) const APPEND: u16 = 0x800;

/// Message types.
pub(super) mod kind {
    pub const NEW_TABLE: u16 = 0;
    pub const GET_TABLE: u16 = 1;
    pub const DELETE_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const NEW_RULE: u16 = 6;
    pub const GET_RULE: u16 = 7;
    pub const DELETE_RULE: u16 = 8;
    pub const NEW_SET: u16 = 9;
    pub const GET_SET: u16 = 10;
    pub const DELETE_SET: u16 = 11;
    pub const NEW_ELEMENTS: u16 = 12;
    pub const GET_ELEMENTS: u16 = 13;
    pub const DELETE_ELEMENTS: u16 = 14;
    pub const GET_GENERATION: u16 = 16;
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bytes of an address.
    pub fn bytes(self) -> u8 {
        if self == Self::V4 { 4 } else { 16 }
    }
}

/// What a rule does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ends our chain; other chains still judge the packet.
    Accept,
    /// Counts and drops it.
    Drop,
}

/// An address in a set; a network stands there as its first address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// Address.
    pub address: IpAddr,
    /// Milliseconds left; `None` stays until it is taken out.
    pub timeout_ms: Option<u64>,
}

/// A message about our tables.
pub(super) fn message(attempt: impl Into<String>, kind: u16, flags: u16) -> Message {
    message_in(INET, attempt, kind, flags)
}

/// A message about tables of a family (`NFPROTO_*`).
pub(super) fn message_in(family: u8, attempt: impl Into<String>, kind: u16, flags: u16) -> Message {
    Message::new(attempt, SUBSYSTEM | kind, flags, &[family, 0, 0, 0])
}

/// Makes a table that may be there already.
pub fn new_table(table: &str) -> Message {
    let mut message = message(format!("create table inet {table}"), kind::NEW_TABLE, CREATE);
    message.text(1, table).number(2, 0);
    message
}

/// Removes a table with all that is in it.
pub fn delete_table(table: &str) -> Message {
    let mut message = message(format!("delete table inet {table}"), kind::DELETE_TABLE, 0);
    message.text(1, table);
    message
}

/// Makes a chain at hook prerouting, priority raw (-300), policy accept; it may be there already.
pub fn new_chain(table: &str, chain: &str) -> Message {
    let mut message = message(format!("create chain {chain} in table inet {table}"), kind::NEW_CHAIN, CREATE);
    message.text(1, table).text(3, chain).nested(4, |hook| {
        hook.number(1, 0).attribute(2, &(-300_i32).to_be_bytes());
    });
    message.number(5, 1).text(7, "filter");
    message
}

/// Takes every rule out of a chain.
pub fn flush_chain(table: &str, chain: &str) -> Message {
    let mut message = message(format!("empty chain {chain} in table inet {table}"), kind::DELETE_RULE, 0);
    message.text(1, table).text(2, chain);
    message
}

/// Makes a hash set of addresses; `number` tells the new sets of one batch apart.
pub fn new_set(table: &str, set: &str, family: Family, timeouts: bool, number: u32) -> Message {
    let mut message = message(format!("create set {set} in table inet {table}"), kind::NEW_SET, CREATE);
    let (data_type, flags) = (if family == Family::V4 { 7 } else { 8 }, if timeouts { 0x10 } else { 0 });
    message.text(1, table).text(2, set).number(3, flags).number(4, data_type);
    message.number(5, u32::from(family.bytes())).number(10, number);
    message
}

/// Removes a set that no rule uses.
pub fn delete_set(table: &str, set: &str) -> Message {
    let mut message = message(format!("delete set {set} in table inet {table}"), kind::DELETE_SET, 0);
    message.text(1, table).text(2, set);
    message
}

/// Takes every element out of a set.
pub fn flush_set(table: &str, set: &str) -> Message {
    let mut message = message(format!("empty set {set} in table inet {table}"), kind::DELETE_ELEMENTS, 0);
    message.text(1, table).text(2, set);
    message
}

/// A rule behind the ones that are there: packets whose source, cut to `prefix` bits, is in the set.
pub fn new_rule(table: &str, chain: &str, set: &str, family: Family, prefix: u8, verdict: Verdict) -> Message {
    let attempt = format!("add the rule on set {set} to chain {chain} in table inet {table}");
    let mut message = message(attempt, kind::NEW_RULE, CREATE | APPEND);
    let length = u32::from(family.bytes());
    message.text(1, table).text(2, chain).nested(4, |list| {
        // Which protocol: `meta nfproto` into register 1, compared with the family's number.
        expression(list, "meta", |data| {
            data.number(1, 1).number(2, 15);
        });
        expression(list, "cmp", |data| {
            let protocol = if family == Family::V4 { 2 } else { 10 };
            data.number(1, 1).number(2, 0);
            value(data, 3, &[protocol]);
        });
        // The source address from the network header.
        expression(list, "payload", |data| {
            let offset = if family == Family::V4 { 12 } else { 8 };
            data.number(1, 1).number(2, 1).number(3, offset).number(4, length);
        });
        if prefix < family.bytes() * 8 {
            expression(list, "bitwise", |data| {
                data.number(1, 1).number(2, 1).number(3, length);
                value(data, 4, &mask(family, prefix));
                value(data, 5, &vec![0; usize::from(family.bytes())]);
            });
        }
        expression(list, "lookup", |data| {
            data.text(1, set).number(2, 1);
        });
        if verdict == Verdict::Drop {
            expression(list, "counter", |_| {});
        }
        conclude(list, verdict);
    });
    message
}

/// Puts the verdict of a rule at its end.
pub(super) fn conclude(list: &mut Message, verdict: Verdict) {
    expression(list, "immediate", |data| {
        data.number(1, 0).nested(2, |data| {
            data.nested(2, |data| {
                data.number(1, if verdict == Verdict::Drop { 0 } else { 1 });
            });
        });
    });
}

pub(super) fn expression(list: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    list.nested(1, |expression| {
        expression.text(1, name).nested(2, fill);
    });
}

pub(super) fn value(message: &mut Message, kind: u16, bytes: &[u8]) {
    message.nested(kind, |data| {
        data.attribute(1, bytes);
    });
}

/// A network mask.
pub(super) fn mask(family: Family, prefix: u8) -> Vec<u8> {
    (0..family.bytes())
        .map(|byte| {
            let bits = prefix.saturating_sub(byte * 8).min(8);
            !(u8::MAX.checked_shr(u32::from(bits)).unwrap_or(0))
        })
        .collect()
}

/// Puts elements into a set, in messages as large as they may be. With `refresh`, one that is there gets the new
/// timeout from now on, where the kernel can do that (6.12 and later).
pub fn add_elements(table: &str, set: &str, elements: &[Element], refresh: bool) -> Vec<Message> {
    split(elements, 48, |part| {
        let attempt = format!("add {} elements to set {set} in table inet {table}", part.len());
        elements_message(attempt, kind::NEW_ELEMENTS, CREATE, table, set, part, refresh)
    })
}

/// Takes elements out of a set; one that is missing makes the batch fail.
pub fn delete_elements(table: &str, set: &str, elements: &[Element]) -> Vec<Message> {
    split(elements, 28, |part| {
        let attempt = format!("delete {} elements from set {set} in table inet {table}", part.len());
        elements_message(attempt, kind::DELETE_ELEMENTS, 0, table, set, part, false)
    })
}

/// Cuts elements into messages, where each takes at most so many bytes beside its address.
fn split(elements: &[Element], each: usize, make: impl FnMut(&[Element]) -> Message) -> Vec<Message> {
    elements.chunks(MAX_VALUE / (each + 16)).map(make).collect()
}

pub(super) fn elements_message(
    attempt: String,
    kind: u16,
    flags: u16,
    table: &str,
    set: &str,
    elements: &[Element],
    refresh: bool,
) -> Message {
    let mut message = message(attempt, kind, flags);
    message.text(1, table).text(2, set).nested(3, |list| {
        for element in elements {
            list.nested(1, |one| {
                match element.address {
                    IpAddr::V4(address) => value(one, 1, &address.octets()),
                    IpAddr::V6(address) => value(one, 1, &address.octets()),
                }
                if let (Some(timeout), kind::NEW_ELEMENTS) = (element.timeout_ms, kind) {
                    one.attribute(4, &timeout.to_be_bytes());
                    if refresh {
                        one.attribute(5, &timeout.to_be_bytes());
                    }
                }
            });
        }
    });
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn masks() {
        assert_eq!(mask(Family::V4, 24), [255, 255, 255, 0]);
        assert_eq!(mask(Family::V4, 9), [255, 128, 0, 0]);
        assert_eq!(mask(Family::V4, 0), [0; 4]);
        assert_eq!(mask(Family::V4, 32), [255; 4]);
        assert_eq!(mask(Family::V6, 65)[7..10], [255, 128, 0]);
    }

    proptest! {
        #[test]
        fn every_number_of_elements_fits_into_its_messages(count in 0_usize..9_000, v6 in any::<bool>()) {
            let one = if v6 { "2001:db8::1".parse().unwrap() } else { "192.0.2.1".parse().unwrap() };
            let elements = vec![Element { address: one, timeout_ms: Some(u64::MAX) }; count];
            for message in add_elements("t", "s", &elements, true).iter().chain(&delete_elements("t", "s", &elements)) {
                prop_assert!(message.finish(1, 0).is_ok());
            }
        }
    }
}
