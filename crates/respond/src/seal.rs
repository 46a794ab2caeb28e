//! Seals: what the manager tells a host, signed for that host alone and for a short time. Pure.
//!
//! A seal is an Ed25519 signature (RFC 8032) over a byte form that names the domain and its version, the kind of act,
//! the host, the key, the times and every field of the act. Texts and bytes have their length before them, so no two
//! acts have one form, and a seal for one host, kind or content is none for another. The host does not parse the form:
//! it makes it anew from what it was told, and from its own name.
//!
//! ```text
//! form: "sakimori seal 1\n"  text(kind)  text(host)  key id (16)  issued (i64)  not after (i64)  fields of the act
//! seal:  1 (version)  key id (16)  issued (i64)  not after (i64)  signature (64)            97 bytes, big endian
//! ```

use std::net::IpAddr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sakimori_model::action::Target;
use sakimori_model::id::key_id;
use sakimori_model::{Order, Timestamp};

/// Beginning of the byte form: domain and version.
pub const DOMAIN: &[u8] = b"sakimori seal 1\n";
/// Bytes of a seal.
pub const LENGTH: usize = 97;
/// Most seals that are looked at for one act.
pub const MOST: usize = 16;
/// How far the clock of who sealed may be ahead, in seconds.
pub const SKEW: i64 = 300;
/// How long a seal of the manager's is good, in seconds: it is made when the act is sent.
pub const MANAGER_SECONDS: i64 = 600;
const VERSION: u8 = 1;

/// What is sealed.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// An order, without its own seals.
    Order(&'a Order),
    /// An action is to be taken back.
    Undo {
        /// Its id.
        action: &'a str,
        /// Who asked.
        by: &'a str,
    },
    /// A policy.
    Policy {
        /// Its number.
        number: u64,
        /// Its JSON as it is sent.
        json: &'a [u8],
    },
    /// All automatic answers stop, or go on.
    Halt {
        /// Grows with every change.
        number: u64,
        /// Stop?
        halted: bool,
        /// Take back what is in effect?
        undo: bool,
        /// Who asked.
        by: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// A provisional action is to stay.
    Confirm {
        /// Its id.
        action: &'a str,
        /// Who confirms.
        by: &'a str,
    },
    /// Addresses from which operators are signed in now.
    Operators(&'a [IpAddr]),
    /// The order key itself, sealed once by the bundle key for hosts that enrolled before there was one.
    OrderKey(&'a [u8; 32]),
}

/// Why a seal is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is none of this key.
    #[error("it is not sealed by {0}")]
    Missing(&'static str),
    /// It does not belong to this act on this host.
    #[error("its seal is wrong: another content, another host, or forged")]
    Wrong,
    /// Its time is over.
    #[error("its seal was good until {0}")]
    Late(Timestamp),
    /// It is of a time to come.
    #[error("its seal is of {0}, which is to come; are the clocks right?")]
    Early(Timestamp),
}

/// A seal taken apart.
struct Parts {
    key: [u8; 16],
    issued: Timestamp,
    not_after: Timestamp,
    signature: [u8; 64],
}

impl Parts {
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (not_after, rest) = rest.split_first_chunk::<8>()?;
        let time = |bytes: &[u8; 8]| Timestamp::from_micros(i64::from_be_bytes(*bytes));
        (*version == VERSION).then_some(Self {
            key: *key,
            issued: time(issued),
            not_after: time(not_after),
            signature: rest.try_into().ok()?,
        })
    }
}

/// Seals an act for a host.
pub fn seal(key: &SigningKey, host: &str, act: Act<'_>, issued: Timestamp, not_after: Timestamp) -> Vec<u8> {
    let id = key_id(key.verifying_key().as_bytes());
    let signature = key.sign(&form(host, act, &id, issued, not_after));
    let mut out = Vec::with_capacity(LENGTH);
    out.push(VERSION);
    out.extend(id);
    out.extend(issued.micros().to_be_bytes());
    out.extend(not_after.micros().to_be_bytes());
    out.extend(signature.to_bytes());
    out
}

/// Is one of these seals of this key, for this act on this host, and good now? `who` names the key in the error.
///
/// # Errors
/// Why not: what is wrong with the one that is of this key, where there is one.
pub fn verify(
    key: &VerifyingKey,
    who: &'static str,
    seals: &[Vec<u8>],
    host: &str,
    act: Act<'_>,
    now: Timestamp,
) -> Result<(), SealError> {
    let id = key_id(key.as_bytes());
    let mut outcome = Err(SealError::Missing(who));
    for parts in seals.iter().take(MOST).filter_map(|seal| Parts::read(seal)).filter(|parts| parts.key == id) {
        let form = form(host, act, &id, parts.issued, parts.not_after);
        let fits = key.verify_strict(&form, &Signature::from_bytes(&parts.signature)).is_ok();
        outcome = match () {
            () if !fits => Err(SealError::Wrong),
            () if now >= parts.not_after => Err(SealError::Late(parts.not_after)),
            () if parts.issued > now.plus_secs(SKEW) => Err(SealError::Early(parts.issued)),
            () => return Ok(()),
        };
    }
    outcome
}

/// Which key made a seal; `None` where it is no seal.
pub fn key_of(seal: &[u8]) -> Option<[u8; 16]> {
    Parts::read(seal).map(|parts| parts.key)
}

/// Until when a seal is good; `None` where it is no seal.
pub fn not_after(seal: &[u8]) -> Option<Timestamp> {
    Parts::read(seal).map(|parts| parts.not_after)
}

/// The byte form that is signed.
pub fn form(host: &str, act: Act<'_>, key: &[u8; 16], issued: Timestamp, not_after: Timestamp) -> Vec<u8> {
    let mut out = Form(DOMAIN.to_vec());
    let kind = match act {
        Act::Order(_) => "order",
        Act::Undo { .. } => "undo",
        Act::Policy { .. } => "policy",
        Act::Halt { .. } => "halt",
        Act::Confirm { .. } => "confirm",
        Act::Operators(_) => "operators",
        Act::OrderKey(_) => "order-key",
    };
    out.text(kind);
    out.text(host);
    out.0.extend(key);
    out.time(issued);
    out.time(not_after);
    match act {
        Act::Order(order) => out.order(order),
        Act::Undo { action, by } | Act::Confirm { action, by } => {
            out.text(action);
            out.text(by);
        }
        Act::Policy { number, json } => {
            out.number(number);
            out.bytes(json);
        }
        Act::Halt { number, halted, undo, by, reason } => {
            out.number(number);
            out.0.extend([u8::from(halted), u8::from(undo)]);
            out.text(by);
            out.text(reason);
        }
        Act::Operators(addresses) => {
            out.number(addresses.len() as u64);
            for address in addresses {
                out.text(&address.to_string());
            }
        }
        Act::OrderKey(key) => out.0.extend(key),
    }
    out.0
}

struct Form(Vec<u8>);

impl Form {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_be_bytes());
    }

    fn time(&mut self, time: Timestamp) {
        self.0.extend(time.micros().to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// 0, or 1 and the text.
    fn maybe(&mut self, text: Option<String>) {
        self.0.push(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(&text);
        }
    }

    fn order(&mut self, order: &Order) {
        self.text(&order.id);
        self.text(&order.action);
        self.text(match &order.target {
            Target::Network(_) => "network",
            Target::Channel(_) => "channel",
            Target::File(_) => "file",
            Target::Setting(_) => "setting",
            Target::Resource(_) => "resource",
        });
        self.text(&order.target.to_string());
        self.0.push(u8::from(order.expiry.is_some()));
        self.time(order.expiry.unwrap_or_default());
        let cause = &order.cause;
        for text in [&cause.alert, &cause.rule, &cause.title, &cause.by] {
            self.text(text);
        }
        self.number(cause.events.len() as u64);
        for event in &cause.events {
            self.text(event);
        }
        self.maybe(order.via.map(|proxy| proxy.to_string()));
        self.0.push(u8::from(order.probe));
        self.number(order.inputs.len() as u64);
        for (name, value) in &order.inputs {
            self.text(name);
            self.text(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, order};
    use proptest::prelude::*;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn check(seals: &[Vec<u8>], host: &str, act: Act<'_>, seconds: i64) -> Result<(), SealError> {
        verify(&key(1).verifying_key(), "the manager", seals, host, act, now(seconds))
    }

    /// Golden, computed by a second implementation (Python, from the description above): a change of the form breaks
    /// every host that is not upgraded, so it needs a new version.
    #[test]
    fn the_form_and_the_seal_are_what_they_were() {
        let mut order = order("id-1", "192.0.2.0/24");
        order.expiry = Some(now(60));
        order.via = Some("203.0.113.80".parse().unwrap());
        order.inputs.insert("text".into(), "x".into());
        let acts: [(Act<'_>, &str, &str); 7] = [
            (Act::Order(&order), "d31a7678d30f03b93219eb26", "5e241a08c037ea1f9b8ed98b"),
            (Act::Undo { action: "id-1", by: "ann" }, "ce0fc2caa592e168134f0269", "19c8be8daf434fde39b37d9c"),
            (Act::Policy { number: 7, json: b"{}" }, "10c80a4b1723ce21d98bfb9e", "35b5fac724a7b171d8b35764"),
            (
                Act::Halt { number: 3, halted: true, undo: false, by: "ann", reason: "drill" },
                "b032a2921b8d38ec6302f72e",
                "033e2223434a3ec4ba8643b7",
            ),
            (Act::Confirm { action: "id-1", by: "manager" }, "86dbdbe44270e7d51f55143f", "d049e33d626313cd00eb79ac"),
            (Act::Operators(&["192.0.2.7".parse().unwrap()]), "72bcb286cade75d86558f34b", "bad622ed9503342cd0a0f023"),
            (Act::OrderKey(&[9; 32]), "3ce6577860776afce67c94d2", "621c4b8284741b4a7b252e81"),
        ];
        use sha2::{Digest, Sha256};
        let short = |bytes: &[u8]| hex::encode(Sha256::digest(bytes)).chars().take(24).collect::<String>();
        let id = key_id(key(1).verifying_key().as_bytes());
        for (act, expected_form, expected_seal) in acts {
            let form = form("host-a", act, &id, now(0), now(600));
            let seal = seal(&key(1), "host-a", act, now(0), now(600));
            assert_eq!((short(&form).as_str(), short(&seal).as_str()), (expected_form, expected_seal), "{act:?}");
        }
        let undo = form("h", Act::Undo { action: "a", by: "" }, &[0xab; 16], now(0), now(0));
        let expected = "73616b696d6f7269207365616c20310a\
                        0000000000000004756e646f0000000000000001 68\
                        abababababababababababababababab 0006651728988000 0006651728988000\
                        0000000000000001 61 0000000000000000";
        assert_eq!(hex::encode(undo), expected.replace(' ', ""));
    }

    #[test]
    fn a_seal_is_for_one_content_one_host_one_kind_and_a_time() {
        let one = order("a", "192.0.2.1");
        let good = vec![seal(&key(1), "host-a", Act::Order(&one), now(0), now(600))];
        assert_eq!(check(&good, "host-a", Act::Order(&one), 1), Ok(()));
        assert_eq!(check(&good, "host-b", Act::Order(&one), 1), Err(SealError::Wrong));
        assert_eq!(check(&good, "host-a", Act::Order(&one), 600), Err(SealError::Late(now(600))));
        assert_eq!(check(&good, "host-a", Act::Order(&one), -301), Err(SealError::Early(now(0))));
        assert_eq!(check(&good, "host-a", Act::Undo { action: "a", by: "" }, 1), Err(SealError::Wrong));
        assert_eq!(check(&[], "host-a", Act::Order(&one), 1), Err(SealError::Missing("the manager")));
        let other = vec![seal(&key(2), "host-a", Act::Order(&one), now(0), now(600))];
        assert_eq!(check(&other, "host-a", Act::Order(&one), 1), Err(SealError::Missing("the manager")));
        // A forged one before the good one changes nothing, and neither does garbage.
        let mut forged = good[0].clone();
        forged[96] ^= 1;
        assert_eq!(check(&[vec![1, 2, 3], forged, good[0].clone()], "host-a", Act::Order(&one), 1), Ok(()));
        let flood: Vec<Vec<u8>> = (0..MOST).map(|_| other[0].clone()).chain(good).collect();
        assert!(check(&flood, "host-a", Act::Order(&one), 1).is_err(), "no more than {MOST} are looked at");
    }

    proptest! {
        #[test]
        fn no_bit_may_change(at in 0_usize..LENGTH, bit in 0_u8..8) {
            let one = order("a", "192.0.2.1");
            let mut bytes = seal(&key(1), "host-a", Act::Order(&one), now(0), now(600));
            bytes[at] ^= 1 << bit;
            prop_assert!(check(&[bytes], "host-a", Act::Order(&one), 1).is_err());
        }

        #[test]
        fn every_field_of_an_order_is_covered(field in 0_usize..12, text in "[a-z]{1,8}") {
            let one = order("a", "192.0.2.1");
            let seals = vec![seal(&key(1), "host-a", Act::Order(&one), now(0), now(600))];
            let mut other = one.clone();
            match field {
                0 => other.id.push_str(&text),
                1 => other.action.push_str(&text),
                2 => other.target = Target::Channel("192.0.2.1".into()),
                3 => other.expiry = Some(Timestamp::default()),
                4 => other.cause.alert.push_str(&text),
                5 => other.cause.rule.push_str(&text),
                6 => other.cause.title.push_str(&text),
                7 => other.cause.by.push_str(&text),
                8 => other.cause.events.push(text),
                9 => other.via = Some("192.0.2.2".parse().unwrap()),
                10 => other.probe = true,
                _ => drop(other.inputs.insert(text.clone(), text)),
            }
            prop_assert_eq!(check(&seals, "host-a", Act::Order(&other), 1), Err(SealError::Wrong));
        }

        #[test]
        fn any_bytes_are_no_seal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let one = order("a", "192.0.2.1");
            prop_assert!(check(&[bytes], "host-a", Act::Order(&one), 1).is_err());
        }
    }
}
