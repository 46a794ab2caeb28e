//! `desktop_isolate`: the network interface of a virtual desktop goes into an isolation group, and open connections end.
//!
//! The pure parts are [`super::desktop`] (which one is meant) and [`super::groups`].

use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind, desktop, groups};

/// Slug.
pub const ID: &str = "desktop_isolate";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Isolate a virtual desktop",
    title_ja: "仮想デスクトップを隔離",
    config: &[],
    inputs: &[groups::ISOLATION_GROUP, groups::CONNECTIONS],
    target: TargetKind::Resource(desktop::KIND),
    permissions: &[
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateSecurityGroup",
        "ec2:CreateTags",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteTags",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:ModifyNetworkInterfaceAttribute",
        "ec2:RevokeSecurityGroupEgress",
        "workspaces:DescribeWorkspaces",
    ],
    safety: Safety::Converge,
    undo: Some("puts the former security groups back on its interface"),
    expires: true,
    blast_radius: "one desktop's network; its user stays signed in to it",
    verification: "reads the groups of its interface and the rules of the isolation group",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The desktop that was meant.
    pub desktop: String,
    /// Its interface as it was.
    pub groups: groups::Former,
}
