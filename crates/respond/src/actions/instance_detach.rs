//! `instance_detach`: an instance leaves all target groups and classic load balancers that send it requests.

use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind, instance};

/// Slug.
pub const ID: &str = "instance_detach";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Detach an instance from its load balancers",
    title_ja: "インスタンスをロードバランサーから切り離す",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(instance::KIND),
    permissions: &[
        "ec2:DescribeInstances",
        "elasticloadbalancing:DeregisterInstancesFromLoadBalancer",
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "elasticloadbalancing:RegisterInstancesWithLoadBalancer",
        "elasticloadbalancing:RegisterTargets",
    ],
    safety: Safety::Converge,
    undo: Some("registers it again as it was: target group, port, zone, classic load balancer"),
    expires: true,
    blast_radius: "the share of requests that this instance answers",
    verification: "reads the targets of each group and the instances of each classic load balancer",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Registrations in target groups.
    pub targets: Vec<Registration>,
    /// Names of classic load balancers.
    pub balancers: Vec<String>,
}

/// A registration in a target group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Registration {
    /// ARN of the target group.
    pub group: String,
    /// The instance, or an address of it.
    pub id: String,
    /// Port, where the registration has one of its own.
    pub port: Option<i32>,
    /// Availability zone, where the registration has one.
    pub zone: Option<String>,
    /// Server id of QUIC, where the registration has one.
    pub quic: Option<String>,
}

/// The name of a target group from its ARN, for people.
pub fn name(group: &str) -> &str {
    group.split("targetgroup/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(group)
}

#[cfg(test)]
mod tests {
    #[test]
    fn people_read_the_name_of_a_group() {
        assert_eq!(super::name("arn:aws:elasticloadbalancing:r:1:targetgroup/web/0a1b"), "web");
        assert_eq!(super::name("web"), "web");
    }
}
