//! `instance_stop`: an instance is stopped; its disks stay, what was in its memory does not.

use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind, instance};

/// Slug.
pub const ID: &str = "instance_stop";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Stop an instance",
    title_ja: "インスタンスを停止",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(instance::KIND),
    permissions: &["ec2:DescribeInstanceAttribute", "ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances"],
    safety: Safety::Converge,
    undo: Some(
        "starts it again, without what was in its memory and with another public address where it is not an Elastic IP",
    ),
    expires: true,
    blast_radius: "all that uses this instance",
    verification: "reads the state of the instance",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its state, as AWS writes it.
    pub state: String,
    /// Its public address, which it may lose.
    pub address: Option<String>,
}
