//! nf_tables over our own netlink: no `nft` program, no other library.
//!
//! [`Nft`] reads tables, sets and elements back and carries out changes made by the functions of [`encode`]. Adding and
//! deleting elements is idempotent here, whatever the kernel's version: kernels since 6.12 renew the timeout of an
//! element that is added again; on older ones it is deleted and added in one transaction. The kernel takes out
//! elements whose time is up by itself, also between our reading and our deleting, so both are tried again.

pub mod encode;
pub mod isolate;
pub mod queue;
pub mod queue_form;
mod rule;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encode::kind;
pub use encode::{Element, Family, Verdict};

use crate::netlink::{Message, NetlinkError, Received, Socket, attribute, attributes};

/// nfnetlink's number of nf_tables.
const SUBSYSTEM: u8 = 10;
/// Most elements of one call.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// Longest timeout, in milliseconds (ten years): the kernel refuses ones that overflow its clock.
pub const MAX_TIMEOUT_MS: u64 = 10 * 365 * 86_400_000;
/// Up to so many elements are looked up one by one; more are found by reading the set.
const LOOK_UP: usize = 64;
const ATTEMPTS: usize = 8;
/// Most readings of a set until it is given up.
const READINGS: usize = 50;

/// How an element that is there gets a new timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// By adding it again (Linux 6.12 and later).
    InPlace,
    /// By deleting and adding it in one transaction.
    Replace,
}

impl Renewal {
    /// What this kernel can do.
    pub fn of_this_kernel() -> Self {
        let release = rustix::system::uname();
        Self::of_release(&release.release().to_string_lossy())
    }

    fn of_release(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version >= (6, 12) { Self::InPlace } else { Self::Replace }
    }
}

/// A set of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetInfo {
    /// Name.
    pub name: String,
    /// Of IPv4 or IPv6 addresses; `None` where it holds something else.
    pub family: Option<Family>,
    /// May its elements have timeouts?
    pub timeouts: bool,
}

/// nf_tables in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    renewal: Renewal,
}

impl Nft {
    /// Opens the socket; needs no right yet.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::with_renewal(Renewal::of_this_kernel())
    }

    /// As [`Nft::open`], with a way of renewing timeouts that the kernel is known to have.
    pub fn with_renewal(renewal: Renewal) -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::netfilter()?, renewal })
    }

    /// Carries out all of these changes or none.
    ///
    /// # Errors
    /// The first change that the kernel refused.
    pub fn apply(&mut self, changes: &[Message]) -> Result<(), NetlinkError> {
        self.socket.batch(SUBSYSTEM, changes)
    }

    /// Is there a table of this name in family `inet`?
    pub fn has_table(&mut self, table: &str) -> Result<bool, NetlinkError> {
        let mut request = encode::message(format!("read table inet {table}"), kind::GET_TABLE, 0);
        request.text(1, table);
        found(self.socket.get(&request, |_| {}))
    }

    /// Removes a table; one that is not there is no error. True where it was there.
    pub fn delete_table(&mut self, table: &str) -> Result<bool, NetlinkError> {
        found(self.apply(&[encode::delete_table(table)]))
    }

    /// The sets of a table; none where there is no table.
    pub fn sets(&mut self, table: &str) -> Result<Vec<SetInfo>, NetlinkError> {
        let mut request = encode::message(format!("list the sets of table inet {table}"), kind::GET_SET, 0);
        request.text(1, table);
        match self.socket.dump(&request, |message, all| all.extend(set_info(&message))) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }

    /// The names of the chains of a table; none where there is no table.
    pub fn chains(&mut self, table: &str) -> Result<Vec<String>, NetlinkError> {
        let request = encode::message(format!("list the chains of table inet {table}"), kind::GET_CHAIN, 0);
        // This dump is of all tables of the family.
        self.socket.dump(&request, |message, all| {
            let Some(body) = message.body.get(4..) else { return };
            if text(attribute(body, 1)).as_deref() == Some(table) {
                all.extend(text(attribute(body, 3)));
            }
        })
    }

    /// The rules of a chain in their order, each as the name of the set that it looks into (empty where it looks into
    /// none); none where there is no chain.
    pub fn rules(&mut self, table: &str, chain: &str) -> Result<Vec<String>, NetlinkError> {
        self.rules_as(table, chain, |expressions| looks_into(expressions).unwrap_or_default())
    }

    /// The rules of a chain in their order, each as what `take` makes of its expressions.
    fn rules_as<T>(&mut self, table: &str, chain: &str, take: impl Fn(&[u8]) -> T) -> Result<Vec<T>, NetlinkError> {
        let attempt = format!("list the rules of chain {chain} in table inet {table}");
        let mut request = encode::message(attempt, kind::GET_RULE, 0);
        request.text(1, table).text(2, chain);
        let rules = self.socket.dump(&request, |message, all| {
            let Some(body) = message.body.get(4..) else { return };
            if text(attribute(body, 1)).as_deref() == Some(table) && text(attribute(body, 2)).as_deref() == Some(chain)
            {
                all.push(take(attribute(body, 4).unwrap_or_default()));
            }
        });
        match rules {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }

    /// The elements of a set with the time that they have left, as the kernel holds them at one moment.
    ///
    /// The kernel walks its hash table by counting and says nothing when elements come and go meanwhile, so nothing may
    /// have changed from before to after (the ruleset's generation), and since the table may also have been moved to a
    /// larger one, it is read until a reading finds nothing new.
    ///
    /// # Errors
    /// There is no such set, or the ruleset changes faster than the set can be read.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<Element>, NetlinkError> {
        let attempt = format!("read set {set} of table inet {table}");
        let mut request = encode::message(attempt.as_str(), kind::GET_ELEMENTS, 0);
        request.text(1, table).text(2, set);
        let mut all: HashMap<IpAddr, Option<u64>> = HashMap::new();
        let mut generation = self.generation()?;
        for _ in 0..READINGS {
            let before = all.len();
            for element in self.socket.dump(&request, |message, all| read_elements(&message, all))? {
                all.insert(element.address, element.timeout_ms);
            }
            let now = self.generation()?;
            if now != generation {
                generation = now;
                all.clear();
            } else if before == all.len() {
                let elements = all.into_iter().map(|(address, timeout_ms)| Element { address, timeout_ms });
                return Ok(elements.collect());
            }
        }
        Err(NetlinkError::Interrupted { attempt })
    }

    /// Number of the ruleset's last change, by whomever, in this network namespace.
    fn generation(&mut self) -> Result<Option<u32>, NetlinkError> {
        let request = encode::message("read the generation of the ruleset", kind::GET_GENERATION, 0);
        let mut generation = None;
        self.socket.get(&request, |message| {
            generation = number(message.body.get(4..).and_then(|body| attribute(body, 1)));
        })?;
        Ok(generation)
    }

    /// Puts elements into a set in as few transactions as the socket allows. One that is there gets the new timeout.
    ///
    /// # Errors
    /// A transaction was refused; earlier ones stay.
    pub fn add(&mut self, table: &str, set: &str, elements: &[Element]) -> Result<(), NetlinkError> {
        let elements = bounded(table, set, elements)?;
        if self.renewal == Renewal::InPlace {
            return self.socket.batches(SUBSYSTEM, &encode::add_elements(table, set, &elements, true));
        }
        let mut last = Ok(());
        for _ in 0..ATTEMPTS {
            let there = self.present(table, set, &elements)?;
            if there.is_empty() {
                return self.socket.batches(SUBSYSTEM, &encode::add_elements(table, set, &elements, false));
            }
            last = self.replace(table, set, &elements, &there);
            match &last {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                _ => return last,
            }
        }
        last
    }

    /// Deletes and adds in one transaction a part, so that no part is ever out for a moment.
    fn replace(
        &mut self,
        table: &str,
        set: &str,
        elements: &[Element],
        there: &HashSet<IpAddr>,
    ) -> Result<(), NetlinkError> {
        for part in elements.chunks(8_000) {
            let old: Vec<Element> = part.iter().filter(|one| there.contains(&one.address)).copied().collect();
            let mut changes = encode::delete_elements(table, set, &old);
            changes.extend(encode::add_elements(table, set, part, false));
            self.apply(&changes)?;
        }
        Ok(())
    }

    /// Takes elements out of a set; ones that are not there are no error.
    ///
    /// # Errors
    /// There is no such set, or a transaction was refused; earlier ones stay.
    pub fn delete(&mut self, table: &str, set: &str, addresses: &[IpAddr]) -> Result<(), NetlinkError> {
        let wanted: Vec<Element> =
            addresses.iter().map(|address| Element { address: *address, timeout_ms: None }).collect();
        let mut elements = bounded(table, set, &wanted)?;
        let mut last = self.socket.batches(SUBSYSTEM, &encode::delete_elements(table, set, &elements));
        for _ in 0..ATTEMPTS {
            match &last {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                _ => return last,
            }
            // One of them is not there (any more): the ones that are.
            let there = self.present(table, set, &elements)?;
            elements.retain(|element| there.contains(&element.address));
            last = self.socket.batches(SUBSYSTEM, &encode::delete_elements(table, set, &elements));
        }
        last
    }

    /// Which of these are in the set.
    fn present(&mut self, table: &str, set: &str, of: &[Element]) -> Result<HashSet<IpAddr>, NetlinkError> {
        if of.len() > LOOK_UP {
            return Ok(self.elements(table, set)?.into_iter().map(|element| element.address).collect());
        }
        let mut there = HashSet::new();
        for element in of {
            let attempt = format!("look up {} in set {set} of table inet {table}", element.address);
            let one = std::slice::from_ref(element);
            let request = encode::elements_message(attempt, kind::GET_ELEMENTS, 0, table, set, one, false);
            if found(self.socket.get(&request, |_| {}))? {
                there.insert(element.address);
            }
        }
        Ok(there)
    }
}

/// Each address once, with the last timeout given and within the kernel's limit.
fn bounded(table: &str, set: &str, elements: &[Element]) -> Result<Vec<Element>, NetlinkError> {
    if elements.len() > MAX_ELEMENTS {
        return Err(NetlinkError::TooLarge {
            attempt: format!("change set {set} of table inet {table}"),
            reason: "at most 1,000,000 elements are changed at once",
        });
    }
    let mut seen = HashSet::with_capacity(elements.len());
    let once = elements.iter().rev().filter(|element| seen.insert(element.address));
    Ok(once
        .map(|element| Element {
            address: element.address,
            timeout_ms: element.timeout_ms.map(|timeout| timeout.clamp(1, MAX_TIMEOUT_MS)),
        })
        .collect())
}

/// "No such thing" as an answer rather than an error.
fn found(result: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.try_into().ok().map(u32::from_be_bytes)
}

/// Text with its closing zero.
fn text(bytes: Option<&[u8]>) -> Option<String> {
    let bytes = bytes?;
    Some(String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned())
}

/// The set of the first `lookup` among a rule's expressions.
fn looks_into(expressions: &[u8]) -> Option<String> {
    attributes(expressions)
        .filter(|(_, expression)| text(attribute(expression, 1)).as_deref() == Some("lookup"))
        .find_map(|(_, expression)| text(attribute(attribute(expression, 2)?, 1)))
}

fn set_info(message: &Received<'_>) -> Option<SetInfo> {
    let body = message.body.get(4..)?;
    let name = text(attribute(body, 2))?;
    let family = match (number(attribute(body, 4)), number(attribute(body, 5))) {
        (Some(7), Some(4)) => Some(Family::V4),
        (Some(8), Some(16)) => Some(Family::V6),
        _ => None,
    };
    let flags = number(attribute(body, 3)).unwrap_or(0);
    Some(SetInfo { name, family: family.filter(|_| flags & !0x10 == 0), timeouts: flags & 0x10 != 0 })
}

fn read_elements(message: &Received<'_>, all: &mut Vec<Element>) {
    let list = message.body.get(4..).and_then(|body| attribute(body, 3)).unwrap_or_default();
    all.extend(attributes(list).filter_map(|(_, one)| {
        let key = attribute(attribute(one, 1)?, 1)?;
        let address = match key.len() {
            4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(key).ok()?)),
            _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(key).ok()?)),
        };
        let left = attribute(one, 5).or_else(|| attribute(one, 4));
        let timeout_ms = left.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        Some(Element { address, timeout_ms })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_renew_in_place() {
        for (release, renewal) in [
            ("6.18.44-fc-v669", Renewal::InPlace),
            ("6.12.0", Renewal::InPlace),
            ("7.0-rc1", Renewal::InPlace),
            ("6.1.0-31-amd64", Renewal::Replace),
            ("5.15.0-91-generic", Renewal::Replace),
            ("", Renewal::Replace),
        ] {
            assert_eq!(Renewal::of_release(release), renewal, "{release}");
        }
    }
}
