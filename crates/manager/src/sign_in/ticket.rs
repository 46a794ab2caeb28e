//! Tickets: what a sign-in that has begun has to know at its end, sealed and given to the browser. So nothing is kept of
//! those that begin and never end, of which an attacker makes any number; what ended is kept until its time is up, so that
//! a ticket is good once. The key lives as long as the process: after a restart people begin again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sakimori_model::Timestamp;
use sakimori_runtime::sealing::{Place, Ring, SealingError};
use sakimori_store::control::ALL_TENANTS;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Seconds for which a ticket is good.
pub const SECONDS: i64 = 600;
/// Most tickets that are remembered as used. Each was a sign-in that went well.
pub const MOST_USED: usize = 16_384;
/// Longest ticket, in bytes.
pub const MOST: usize = 4_096;

/// Makes, reads and takes tickets.
pub struct Tickets {
    ring: Ring,
    used: Mutex<HashMap<String, Timestamp>>,
}

/// What a ticket is about.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ticket<T> {
    /// What it was made with.
    pub about: T,
    id: String,
    until: i64,
}

impl Tickets {
    /// With a key of its own.
    ///
    /// # Errors
    /// No random bytes.
    pub fn new() -> Result<Self, SealingError> {
        Ok(Self { ring: Ring::generate()?, used: Mutex::default() })
    }

    /// A ticket for a purpose, good for [`SECONDS`].
    ///
    /// # Errors
    /// No random bytes.
    pub fn make<T: Serialize>(&self, purpose: &str, about: &T, now: Timestamp) -> Result<String, SealingError> {
        let ticket = Ticket { about, id: sakimori_model::id::row_id(), until: now.plus_secs(SECONDS).micros() };
        self.ring.seal(place(purpose), &serde_json::to_vec(&ticket).map_err(|_| SealingError::Form)?)
    }

    /// Reads a ticket; none where it is of another purpose, forged, late or used.
    pub fn read<T: DeserializeOwned>(&self, purpose: &str, text: &str, now: Timestamp) -> Option<Ticket<T>> {
        if text.len() > MOST {
            return None;
        }
        let bytes = self.ring.open(place(purpose), text).ok()?;
        let ticket: Ticket<T> = serde_json::from_slice(bytes.expose()).ok()?;
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&ticket.id);
        (!used && ticket.until > now.micros()).then_some(ticket)
    }

    /// Uses a ticket; false where it was used before, or no more can be remembered.
    pub fn take<T>(&self, ticket: &Ticket<T>, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MOST_USED {
            used.retain(|_, until| *until > now);
        }
        used.len() < MOST_USED && used.insert(ticket.id.clone(), Timestamp::from_micros(ticket.until)).is_none()
    }
}

fn place(purpose: &str) -> Place<'_> {
    Place { purpose, tenant: ALL_TENANTS, name: "ticket" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_000 + second)
    }

    #[test]
    fn a_ticket_is_good_once_in_its_time_and_for_its_purpose() {
        let tickets = Tickets::new().unwrap();
        let text = tickets.make("a", &7_u8, at(0)).unwrap();
        let read = |purpose: &str, text: &str, now| tickets.read::<u8>(purpose, text, now).map(|ticket| ticket.about);
        assert_eq!(read("a", &text, at(SECONDS - 1)), Some(7));
        assert_eq!(read("a", &text, at(SECONDS)), None, "late");
        assert_eq!(read("b", &text, at(1)), None, "another purpose");
        assert_eq!(read("a", &text.to_uppercase(), at(1)), None);
        assert_eq!(read("a", &"x".repeat(MOST + 1), at(1)), None);
        assert_eq!(Tickets::new().unwrap().read::<u8>("a", &text, at(1)).map(|one| one.about), None, "another process");
        let ticket = tickets.read::<u8>("a", &text, at(1)).unwrap();
        assert!(tickets.take(&ticket, at(1)) && !tickets.take(&ticket, at(1)));
        assert_eq!(read("a", &text, at(1)), None, "used");
    }

    #[test]
    fn used_ones_are_bounded_and_go_with_time() {
        let tickets = Tickets::new().unwrap();
        let ticket = |id: usize| Ticket { about: (), id: id.to_string(), until: at(10).micros() };
        assert!((0..MOST_USED).all(|id| tickets.take(&ticket(id), at(0))));
        assert!(!tickets.take(&ticket(MOST_USED), at(0)), "none is forgotten before its time");
        assert!(tickets.take(&ticket(MOST_USED), at(11)));
        assert_eq!(tickets.used.lock().unwrap().len(), 1);
    }
}
