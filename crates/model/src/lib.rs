//! What everything in Sakimori speaks: events, policies, actions, ids and time. Data only, no I/O.
#![forbid(unsafe_code)]

pub mod action;
pub mod address;
pub mod catalog;
pub mod event;
pub mod id;
pub mod ledger;
pub mod policy;
pub mod rule;
pub mod schedule;
pub mod time;

pub use action::{Action, ActionState, Cause, Order};
pub use address::Network;
pub use catalog::{FieldId, FieldKind, field};
pub use event::{Event, Value};
pub use time::Timestamp;
