//! Which resources a right of AWS reaches: as narrow as AWS lets a policy say it.
//!
//! After AWS's Service Authorization Reference: where a call names resources, the ARN of each kind that AWS then asks about;
//! where it lists or describes, no resource can be named, and [`ANY`] says so. A right that is in neither list is one that a
//! descriptor has and this file does not; a test finds it, and [`kinds`] then says `*`, which works.

use crate::actions::instance::PROTECTED;

/// What stays `*`: AWS knows no resource for these, they read only, and most list what is there.
pub const ANY: &[&str] = &[
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLifecycleHooks",
    "ec2:DescribeInstanceAttribute",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "ssm:DescribeInstanceInformation",
    "ssm:GetCommandInvocation",
    "ssm:ListCommands",
    "sts:GetCallerIdentity",
    "wafv2:ListIPSets",
    "wafv2:ListWebACLs",
    "workspaces:DescribeWorkspaces",
];

/// Rights of channels that take findings, each in [`kinds`] too: on findings of our own product, the one hub of an account, and
/// buses.
pub const FINDINGS: &[&str] =
    &["events:PutEvents", "securityhub:BatchImportFindings", "securityhub:BatchUpdateFindings"];

/// A kind of resource, and on which of them a right counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// ARN with `{partition}`, `{region}`, `{account}` and `{ip_set}` to be filled in.
    pub arn: &'static str,
    /// Which of them.
    pub only: Only,
}

/// Which resources of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Only {
    /// All.
    All,
    /// Those without the tag that protects an instance: not even a stolen manager stops them.
    Unprotected,
    /// All, but nothing but tags of ours are put on or taken off.
    OurTags,
}

const fn all(arn: &'static str) -> Kind {
    Kind { arn, only: Only::All }
}

const fn ours(arn: &'static str) -> Kind {
    Kind { arn, only: Only::OurTags }
}

const USER: &[Kind] = &[all("arn:{partition}:iam::{account}:user/*")];
const ROLE: &[Kind] = &[all("arn:{partition}:iam::{account}:role/*")];
const BUCKET: &[Kind] = &[all("arn:{partition}:s3:::*")];
const FUNCTION: &[Kind] = &[all("arn:{partition}:lambda:{region}:{account}:function:*")];
const PIPELINE: &[Kind] = &[all("arn:{partition}:codepipeline:{region}:{account}:*")];
const STAGE: &[Kind] = &[all("arn:{partition}:codepipeline:{region}:{account}:*/*")];
const SCALING: &[Kind] =
    &[all("arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/*")];
const BALANCER: &[Kind] = &[all("arn:{partition}:elasticloadbalancing:{region}:{account}:loadbalancer/*")];
const TARGETS: &[Kind] = &[all("arn:{partition}:elasticloadbalancing:{region}:{account}:targetgroup/*/*")];
const DESKTOP: &[Kind] = &[all("arn:{partition}:workspaces:{region}:{account}:workspace/*")];
const INSTANCE: Kind = all("arn:{partition}:ec2:{region}:{account}:instance/*");
const UNPROTECTED: &[Kind] =
    &[Kind { arn: "arn:{partition}:ec2:{region}:{account}:instance/*", only: Only::Unprotected }];
const GROUP: Kind = all("arn:{partition}:ec2:{region}:{account}:security-group/*");
const RULE: Kind = all("arn:{partition}:ec2:{region}:{account}:security-group-rule/*");
const SNAPSHOT: Kind = all("arn:{partition}:ec2:{region}::snapshot/*");
const VOLUME: Kind = all("arn:{partition}:ec2:{region}:{account}:volume/*");
const IP_SET: &[Kind] = &[all("arn:{partition}:wafv2:{region}:{account}:*/ipset/{ip_set}-*/*")];
const WEB_ACL: Kind = all("arn:{partition}:wafv2:{region}:{account}:*/webacl/*/*");

/// Each right, and the kinds of resources that AWS asks about in its calls.
const REACH: &[(&str, &[Kind])] = &[
    ("autoscaling:AttachInstances", SCALING),
    ("autoscaling:CompleteLifecycleAction", SCALING),
    ("autoscaling:DetachInstances", SCALING),
    ("autoscaling:EnterStandby", SCALING),
    ("autoscaling:ExitStandby", SCALING),
    ("autoscaling:SetInstanceProtection", SCALING),
    ("codepipeline:DisableStageTransition", STAGE),
    ("codepipeline:EnableStageTransition", STAGE),
    ("codepipeline:GetPipelineState", PIPELINE),
    ("codepipeline:ListPipelineExecutions", PIPELINE),
    ("codepipeline:StopPipelineExecution", PIPELINE),
    ("ec2:AuthorizeSecurityGroupEgress", &[GROUP, RULE]),
    ("ec2:AuthorizeSecurityGroupIngress", &[GROUP, RULE]),
    ("ec2:CreateSecurityGroup", &[GROUP, all("arn:{partition}:ec2:{region}:{account}:vpc/*")]),
    ("ec2:CreateSnapshot", &[SNAPSHOT, VOLUME]),
    ("ec2:CreateSnapshots", &[INSTANCE, SNAPSHOT, VOLUME]),
    // A rule of a security group that is put back gets its own tags back, whatever they are.
    (
        "ec2:CreateTags",
        &[
            ours("arn:{partition}:ec2:{region}:{account}:instance/*"),
            ours("arn:{partition}:ec2:{region}:{account}:security-group/*"),
            ours("arn:{partition}:ec2:{region}::snapshot/*"),
            RULE,
        ],
    ),
    ("ec2:DeleteSecurityGroup", &[GROUP]),
    ("ec2:DeleteTags", &[ours("arn:{partition}:ec2:{region}:{account}:instance/*")]),
    (
        "ec2:ModifyNetworkInterfaceAttribute",
        &[INSTANCE, all("arn:{partition}:ec2:{region}:{account}:network-interface/*"), GROUP],
    ),
    ("ec2:RevokeSecurityGroupEgress", &[GROUP, RULE]),
    ("ec2:RevokeSecurityGroupIngress", &[GROUP, RULE]),
    ("ec2:StartInstances", &[INSTANCE]),
    ("ec2:StopInstances", UNPROTECTED),
    ("ec2:TerminateInstances", UNPROTECTED),
    ("elasticloadbalancing:DeregisterInstancesFromLoadBalancer", BALANCER),
    ("elasticloadbalancing:DeregisterTargets", TARGETS),
    ("elasticloadbalancing:RegisterInstancesWithLoadBalancer", BALANCER),
    ("elasticloadbalancing:RegisterTargets", TARGETS),
    ("events:PutEvents", &[all("arn:{partition}:events:{region}:{account}:event-bus/*")]),
    ("iam:DeleteRolePolicy", ROLE),
    ("iam:DeleteUserPolicy", USER),
    ("iam:GetAccessKeyLastUsed", USER),
    ("iam:GetRole", ROLE),
    ("iam:GetRolePolicy", ROLE),
    ("iam:GetUser", USER),
    ("iam:GetUserPolicy", USER),
    ("iam:ListAccessKeys", USER),
    ("iam:ListRolePolicies", ROLE),
    ("iam:ListUserPolicies", USER),
    ("iam:PutRolePolicy", ROLE),
    ("iam:PutUserPolicy", USER),
    (
        "iam:SimulatePrincipalPolicy",
        &[all("arn:{partition}:iam::{account}:role/*"), all("arn:{partition}:iam::{account}:user/*")],
    ),
    ("iam:UpdateAccessKey", USER),
    ("lambda:DeleteFunctionConcurrency", FUNCTION),
    ("lambda:GetFunctionConcurrency", FUNCTION),
    ("lambda:PutFunctionConcurrency", FUNCTION),
    ("s3:DeleteBucketPolicy", BUCKET),
    ("s3:GetBucketPolicy", BUCKET),
    ("s3:GetBucketPublicAccessBlock", BUCKET),
    ("s3:PutBucketPolicy", BUCKET),
    ("s3:PutBucketPublicAccessBlock", BUCKET),
    (
        "securityhub:BatchImportFindings",
        &[all("arn:{partition}:securityhub:{region}:{account}:product/{account}/default")],
    ),
    ("securityhub:BatchUpdateFindings", &[all("arn:{partition}:securityhub:{region}:{account}:hub/default")]),
    // Our one document, which is AWS's own; where its output goes is an input of the action.
    (
        "ssm:SendCommand",
        &[
            all("arn:{partition}:ssm:{region}::document/AWS-RunShellScript"),
            INSTANCE,
            all("arn:{partition}:ssm:{region}:{account}:managed-instance/*"),
            all("arn:{partition}:s3:::*"),
        ],
    ),
    ("wafv2:CreateIPSet", IP_SET),
    ("wafv2:GetIPSet", IP_SET),
    ("wafv2:GetWebACL", &[WEB_ACL]),
    ("wafv2:ListResourcesForWebACL", &[WEB_ACL]),
    ("wafv2:UpdateIPSet", IP_SET),
    // AWS asks about all that the web ACL's rules refer to, yours too.
    (
        "wafv2:UpdateWebACL",
        &[
            WEB_ACL,
            all("arn:{partition}:wafv2:{region}:{account}:*/ipset/*/*"),
            all("arn:{partition}:wafv2:{region}:{account}:*/managedruleset/*/*"),
            all("arn:{partition}:wafv2:{region}:{account}:*/regexpatternset/*/*"),
            all("arn:{partition}:wafv2:{region}:{account}:*/rulegroup/*/*"),
        ],
    ),
    ("workspaces:StartWorkspaces", DESKTOP),
    ("workspaces:StopWorkspaces", DESKTOP),
];

/// The kinds of resources of a right; `None` where no resource can be named.
pub fn kinds(right: &str) -> Option<&'static [Kind]> {
    REACH.iter().find(|(one, _)| *one == right).map(|(_, kinds)| *kinds)
}

impl Only {
    /// The condition of a statement of a policy.
    pub fn condition(self) -> Option<serde_json::Value> {
        match self {
            Self::All => None,
            Self::Unprotected => {
                let key = format!("aws:ResourceTag/{PROTECTED}");
                Some(serde_json::json!({ "Null": { key: "true" } }))
            }
            Self::OurTags => Some(serde_json::json!({ "ForAllValues:StringLike": { "aws:TagKeys": ["sakimori:*"] } })),
        }
    }
}

/// Where an account is, as ARNs say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// `ap-northeast-1`, or `*`.
    pub region: String,
    /// AWS's number, or `*`.
    pub account: String,
    /// Name of the WAF's sets.
    pub ip_set: String,
}

impl Default for Site {
    fn default() -> Self {
        let any = || "*".to_owned();
        Self { partition: "aws".to_owned(), region: any(), account: any(), ip_set: "sakimori-blocked".to_owned() }
    }
}

impl Site {
    /// The ARN of a kind there, which names all of it.
    pub fn arn(&self, kind: &Kind) -> String {
        kind.arn
            .replace("{partition}", &self.partition)
            .replace("{region}", &self.region)
            .replace("{account}", &self.account)
            .replace("{ip_set}", &self.ip_set)
    }

    /// The ARN of one resource of a kind, to ask about.
    pub fn example(&self, kind: &Kind) -> String {
        let mut parts = self.arn(kind).splitn(6, ':').map(str::to_owned).collect::<Vec<_>>();
        if let Some(name) = parts.last_mut() {
            *name = name
                .replace("*/webacl", "regional/webacl")
                .replace("*/ipset", "regional/ipset")
                .replace('*', "sakimori");
        }
        parts.join(":")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::actions::CATALOG;
    use crate::least::{TO_CHECK, rights_of};

    #[test]
    fn every_right_of_the_catalog_has_its_reach_or_the_reason_why_it_has_none() {
        let of_actions = CATALOG.iter().flat_map(|action| rights_of(action));
        let used: BTreeSet<&str> = of_actions.chain([TO_CHECK]).chain(FINDINGS.iter().copied()).collect();
        let known: BTreeSet<&str> = REACH.iter().map(|(right, _)| *right).chain(ANY.iter().copied()).collect();
        assert_eq!(used, known);
        // What cannot be bound to a resource only reads.
        for right in ANY {
            let (_, call) = right.split_once(':').unwrap();
            assert!(["Describe", "Get", "List"].iter().any(|verb| call.starts_with(verb)), "{right} changes something");
        }
    }

    #[test]
    fn arns_are_whole_and_an_example_is_one_resource_of_its_kind() {
        let site = Site { region: "eu-west-1".into(), account: "123456789012".into(), ..Site::default() };
        for (right, kinds) in REACH {
            for kind in *kinds {
                let (arn, example) = (site.arn(kind), site.example(kind));
                assert!(arn.split(':').count() >= 6 && !arn.contains('{'), "{right}: {arn}");
                assert!(!example.contains('*'), "{right}: {example}");
                let parts: Vec<&str> = arn.split('*').collect();
                let mut rest = example.as_str();
                for part in parts {
                    let at = rest.find(part).unwrap_or_else(|| panic!("{example} is none of {arn}"));
                    rest = &rest[at + part.len()..];
                }
            }
        }
        let mine = Site { ip_set: "mine".into(), ..site };
        assert_eq!(mine.arn(&IP_SET[0]), "arn:aws:wafv2:eu-west-1:123456789012:*/ipset/mine-*/*");
    }
}
