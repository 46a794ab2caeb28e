//! What rules of every table of ours are made of: chains at hooks, and the expressions that a packet is looked at by.

use super::encode::{APPEND, CREATE, expression, kind, message_in, value};
use crate::netlink::Message;

/// A chain at a hook, policy accept.
pub fn base_chain(family: u8, table: &str, chain: &str, hook: u32, priority: i32) -> Message {
    let attempt = format!("create chain {chain} in table {table}");
    let mut message = message_in(family, attempt, kind::NEW_CHAIN, CREATE);
    message.text(1, table).text(3, chain).nested(4, |at| {
        at.number(1, hook).attribute(2, &priority.to_be_bytes());
    });
    message.number(5, 1).text(7, "filter");
    message
}

/// A rule at the end of a chain.
pub fn rule(family: u8, table: &str, chain: &str, fill: impl FnOnce(&mut Message)) -> Message {
    let attempt = format!("add a rule to chain {chain} in table {table}");
    let mut message = message_in(family, attempt, kind::NEW_RULE, CREATE | APPEND);
    message.text(1, table).text(2, chain).nested(4, fill);
    message
}

/// The packet's mark, into register 1.
pub fn packet_mark(list: &mut Message) {
    expression(list, "meta", |data| {
        data.number(1, 1).number(2, 3);
    });
}

/// The connection's mark, into register 1.
pub fn connection_mark(list: &mut Message) {
    expression(list, "ct", |data| {
        data.number(1, 1).number(2, 3);
    });
}

/// Register 1 compared with these bytes.
pub fn equals(list: &mut Message, bytes: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, 1).number(2, 0);
        value(data, 3, bytes);
    });
}

/// Only these bits of register 1 stay.
pub fn masked(list: &mut Message, mask: u32) {
    bitwise(list, mask, 0);
}

/// A TCP segment that is an acknowledgement and nothing else: no other flag, no payload, a header of so many bytes (20,
/// or 32 with time stamps), no options of IP.
pub fn bare_acknowledgement(list: &mut Message, family: u8, header: u8) {
    protocol_is(list, 6);
    if family == 2 {
        // Version and length of the header, and the packet's length; the type of service between them is anything.
        loaded(list, Base::Network, 0, 4);
        masked(list, u32::from_ne_bytes([0xff, 0, 0xff, 0xff]));
        equals(list, &[0x45, 0, 0, 20 + header]);
    } else {
        // The length behind the header, and that TCP comes next.
        loaded(list, Base::Network, 4, 3);
        equals(list, &[0, header, 6]);
    }
    // The header's length in words, then the flags.
    loaded(list, Base::Transport, 12, 2);
    equals(list, &[header << 2, 0x10]);
}

/// Packets beyond so many a second.
pub fn beyond(list: &mut Message, a_second: u32) {
    expression(list, "limit", |data| {
        data.attribute(1, &u64::from(a_second).to_be_bytes()).attribute(2, &1_u64.to_be_bytes());
        // A burst of a few; of packets (`NFT_LIMIT_PKTS`); those beyond it (`NFT_LIMIT_F_INV`).
        data.number(3, 5).number(4, 0).number(5, 1);
    });
}

/// Where an offset begins (`NFT_PAYLOAD_*_HEADER`).
#[derive(Clone, Copy)]
enum Base {
    Network = 1,
    Transport = 2,
}

/// So many bytes of a header, into register 1.
fn loaded(list: &mut Message, base: Base, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.number(1, 1).number(2, base as u32).number(3, offset).number(4, length);
    });
}

/// These bits of register 1 become others.
pub fn replaced(list: &mut Message, mask: u32, bits: u32) {
    bitwise(list, !mask, bits);
}

fn bitwise(list: &mut Message, mask: u32, xor: u32) {
    expression(list, "bitwise", |data| {
        data.number(1, 1).number(2, 1).number(3, 4);
        value(data, 4, &mask.to_ne_bytes());
        value(data, 5, &xor.to_ne_bytes());
    });
}

/// The protocol above IP.
pub fn protocol_is(list: &mut Message, protocol: u8) {
    expression(list, "meta", |data| {
        data.number(1, 1).number(2, 16);
    });
    equals(list, &[protocol]);
}

/// The protocol, and a port at this offset of its header.
pub fn port_is(list: &mut Message, protocol: u8, offset: u32, port: u16) {
    protocol_is(list, protocol);
    loaded(list, Base::Transport, offset, 2);
    equals(list, &port.to_be_bytes());
}

/// The interface that a key of `meta` tells.
pub fn interface_is(list: &mut Message, key: u32, name: &str) {
    expression(list, "meta", |data| {
        data.number(1, 1).number(2, key);
    });
    // Names are compared whole, with the zeros behind them.
    let mut whole = [0_u8; 16];
    whole.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    equals(list, &whole);
}
