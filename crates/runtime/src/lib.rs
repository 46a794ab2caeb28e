//! What every long-running program here needs and no rule knows: config, clock, supervision, stopping,
//! telemetry, the one HTTP client, how secrets are sealed, and the form of a doctor's findings. Nothing else may spawn a task or
//! read the clock (`clippy.toml`), save `sys`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod clock;
pub mod config;
pub mod doctor;
pub mod http;
pub mod sealing;
pub mod secret;
pub mod stop;
pub mod supervise;
pub mod telemetry;

pub use clock::{Clock, SystemClock};
pub use secret::Secret;
pub use stop::Stop;
pub use supervise::{Restart, Supervisor, Task};
