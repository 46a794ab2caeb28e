//! Engine: record to ECS (VRL), ECS to Sigma to correlation to alert.
//!
//! Pure: no thread, socket, file or clock. Time and bytes come in as arguments, events and alerts go out.
//!
//! - [`LogSource`], [`Normaliser`]: a line becomes an event.
//! - [`arrival`]: a message of a queue or webhook becomes records, each of a log source; [`sns`] is its envelope.
//! - [`Detector`]: events become alerts; [`Detector::snapshot`] keeps its open windows over a restart.
//! - [`why`]: which tests of a rule an event met, and where.
//! - [`cases`], [`testcases`]: the examples beside log sources and rules, run as their tests.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod alert;
mod aliases;
pub mod arrival;
pub mod cases;
mod condition;
mod correlation;
mod detector;
mod document;
mod error;
pub mod forwarded;
pub mod functions;
mod graph;
mod index;
mod logsource;
mod names;
mod normalise;
mod options;
mod plain;
mod record;
mod rule;
pub mod snapshot;
pub mod sns;
pub mod source;
pub mod syslog;
pub mod syslog_frames;
pub mod testcases;
mod view;
pub mod why;
mod window;
mod witness;

pub use chrono_tz::Tz;
pub use detector::{Detector, Placed};
pub use error::ContentError;
pub use normalise::{LineContext, Normaliser};
pub use options::{Counters, Options, Place};
pub use snapshot::RestoreError;
pub use source::LogSource;
