//! The catalog of protection modules, in the order in which status and documentation show them. A module is
//! a file in this folder and one line here; what the manager, the command line and `doctor` say of it comes
//! from its descriptor.

use sakimori_model::policy::Policy;
use sakimori_runtime::doctor::Finding;

pub mod antimalware;
pub mod block_address;
pub mod intrusion_prevention;
pub mod log_inspection;

/// What a module is.
pub struct Descriptor {
    /// Stable slug, the name of its section in the policy.
    pub id: &'static str,
    /// Title, in English.
    pub title: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Version of its section's schema, stated to the manager (D21).
    pub config_schema: u32,
    /// Does this policy switch it on?
    pub is_on: fn(&Policy) -> bool,
    /// What it lacks on this machine.
    pub check: fn(&crate::config::Config) -> Vec<Finding>,
}

/// All modules.
pub const CATALOG: &[&Descriptor] = &[
    &log_inspection::DESCRIPTOR,
    &block_address::DESCRIPTOR,
    &antimalware::DESCRIPTOR,
    &intrusion_prevention::DESCRIPTOR,
];
