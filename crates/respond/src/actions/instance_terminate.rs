//! `instance_terminate`: an instance is terminated, for good. One that is protected from termination stays.

use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind, instance};

/// Slug.
pub const ID: &str = "instance_terminate";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Terminate an instance (cannot be taken back)",
    title_ja: "インスタンスを終了(元に戻せません)",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(instance::KIND),
    permissions: &["ec2:DescribeInstanceAttribute", "ec2:DescribeInstances", "ec2:TerminateInstances"],
    safety: Safety::Converge,
    undo: None,
    expires: false,
    blast_radius: "all that uses this instance, and its disks that go with it, for good",
    verification: "reads the state of the instance",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its state, as AWS writes it.
    pub state: String,
    /// Disks that go with it.
    pub disks: Vec<String>,
}
