//! Proofs of people and providers, right ones and hostile ones. Devices and providers are of our own making; keys are drawn
//! when a test runs, but for one RSA signature whose private key was thrown away.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod device;
mod passkeys;
mod tokens;
