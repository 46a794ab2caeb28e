//! `instance_isolate`: all network interfaces of an instance go into an isolation group, and connections that are open end.
//!
//! The pure part is [`super::groups`].

use super::{Descriptor, Runs, Safety, TargetKind, groups, instance};

/// Slug.
pub const ID: &str = "instance_isolate";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Isolate an instance",
    title_ja: "インスタンスを隔離",
    config: &[],
    inputs: &[groups::ISOLATION_GROUP, groups::CONNECTIONS],
    target: TargetKind::Resource(instance::KIND),
    permissions: &[
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateSecurityGroup",
        "ec2:CreateTags",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteTags",
        "ec2:DescribeInstances",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:ModifyNetworkInterfaceAttribute",
        "ec2:RevokeSecurityGroupEgress",
    ],
    safety: Safety::Converge,
    undo: Some("puts the former security groups back on each interface"),
    expires: true,
    blast_radius: "all that uses this instance; its management, too",
    verification: "reads the groups of every interface and the rules of the isolation group",
    runs: Runs::Account,
};
