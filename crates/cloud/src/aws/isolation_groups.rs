//! The two security groups of an isolation: one that allows nothing and stays, and one that allows everything, with which no
//! connection is tracked, and which goes at once.
//!
//! Where AWS differs from the simulator: a group that was just made may not be seen for some seconds, and one cannot be
//! deleted for some seconds after its last interface left it.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType, SecurityGroup};
use sakimori_respond::actions::groups;
use sakimori_respond::ports::PortError;

use super::ec2::{self, Interface, filter, security_groups};
use super::isolation::Isolation;
use super::problem::{code, problem};

/// How often a group that is not free yet is tried to delete, a second apart.
const DELETIONS: u32 = 5;

impl Isolation<'_> {
    /// The isolation group of a VPC, where there is one; a sentence where it cannot be used.
    pub(super) async fn find(&self, vpc: &str) -> Result<Result<Option<SecurityGroup>, String>, PortError> {
        if let Some(id) = self.wanted.group {
            let found = security_groups(&self.client, vec![filter("group-id", [id])]).await?;
            return Ok(match found.into_iter().next() {
                Some(group) if group.vpc_id() == Some(vpc) => Ok(Some(group)),
                Some(group) => Err(format!("{} is not in {vpc}, where {} is", name(&group), self.what)),
                None => Err(format!("there is no security group {id} to isolate with")),
            });
        }
        let found = security_groups(&self.client, vec![filter("vpc-id", [vpc]), filter("group-name", [groups::NAME])]);
        Ok(match found.await?.into_iter().next() {
            Some(group) if is_empty(&group) || is_unfinished(&group) => Ok(Some(group)),
            Some(group) => Err(format!(
                "{} has rules, so that it does not isolate: take them out, or name the group in isolation_group where they \
                 are meant",
                name(&group)
            )),
            None => Ok(None),
        })
    }

    /// The id of the isolation group of a VPC; made where it is missing, without rules.
    pub(super) async fn ensure(&self, vpc: &str) -> Result<String, PortError> {
        let group = match self.find(vpc).await?.map_err(PortError::permanent)? {
            Some(group) => group,
            None => {
                self.make(vpc, groups::NAME, "Isolated by Sakimori: no traffic in or out").await?;
                self.find(vpc).await?.map_err(PortError::permanent)?.ok_or_else(|| {
                    PortError::transient(format!("the security group {} is not to be seen yet", groups::NAME))
                })?
            }
        };
        let id = group.group_id().unwrap_or_default().to_owned();
        if self.wanted.group.is_none() && !group.ip_permissions_egress().is_empty() {
            let rules = group.ip_permissions_egress().to_vec();
            let sent = self.client.revoke_security_group_egress().group_id(&id).set_ip_permissions(Some(rules)).send();
            match sent.await {
                Err(error) if code(&error) == Some("InvalidPermission.NotFound") => {}
                sent => {
                    sent.map_err(|error| problem("ec2:RevokeSecurityGroupEgress", &error))?;
                }
            }
        }
        Ok(id)
    }

    /// The group with which nothing is tracked, for this action in a VPC.
    pub(super) async fn cut_group(&self, vpc: &str) -> Result<String, PortError> {
        let wanted = groups::cut_name(self.action);
        let mine = || security_groups(&self.client, vec![filter("vpc-id", [vpc]), filter("group-name", [&wanted])]);
        if mine().await?.is_empty() {
            self.make(vpc, &wanted, "Made by Sakimori for a moment, to end tracked connections").await?;
        }
        let unseen = || PortError::transient(format!("the security group {wanted} is not to be seen yet"));
        let group = mine().await?.into_iter().next().ok_or_else(unseen)?;
        let id = group.group_id().unwrap_or_default().to_owned();
        let all = |four: bool| {
            let rule = IpPermission::builder().ip_protocol("-1");
            match four {
                true => rule.ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build()),
                false => rule.ipv6_ranges(Ipv6Range::builder().cidr_ipv6("::/0").build()),
            }
            .build()
        };
        for rule in [all(true), all(false)] {
            let sent = self.client.authorize_security_group_ingress().group_id(&id).ip_permissions(rule.clone());
            match sent.send().await {
                Err(error) if code(&error) == Some("InvalidPermission.Duplicate") => {}
                sent => {
                    sent.map_err(|error| problem("ec2:AuthorizeSecurityGroupIngress", &error))?;
                }
            }
            let sent = self.client.authorize_security_group_egress().group_id(&id).ip_permissions(rule);
            match sent.send().await {
                // A new group allows all of IPv4 outwards.
                Err(error) if code(&error) == Some("InvalidPermission.Duplicate") => {}
                sent => {
                    sent.map_err(|error| problem("ec2:AuthorizeSecurityGroupEgress", &error))?;
                }
            }
        }
        Ok(id)
    }

    async fn make(&self, vpc: &str, name: &str, about: &str) -> Result<(), PortError> {
        let sent = self.client.create_security_group().group_name(name).description(about).vpc_id(vpc);
        let sent = sent.tag_specifications(ec2::tagged(ResourceType::SecurityGroup, [groups::OURS])).send();
        match sent.await {
            Err(error) if code(&error) == Some("InvalidGroup.Duplicate") => Ok(()),
            sent => sent.map(|_| ()).map_err(|error| problem("ec2:CreateSecurityGroup", &error)),
        }
    }

    /// The groups that we isolate and cut with.
    pub(super) async fn ours(&self, now: &[Interface]) -> Result<BTreeSet<String>, PortError> {
        let mut ours: BTreeSet<String> = self.wanted.group.iter().map(|group| (*group).to_owned()).collect();
        let vpcs: BTreeSet<&str> = now.iter().map(|one| one.vpc.as_str()).collect();
        let cut = groups::cut_name(self.action);
        for vpc in vpcs {
            let names = filter("group-name", [groups::NAME, cut.as_str()]);
            let found = security_groups(&self.client, vec![filter("vpc-id", [vpc]), names]).await?;
            ours.extend(found.iter().filter_map(|group| group.group_id()).map(str::to_owned));
        }
        Ok(ours)
    }

    /// Deletes the groups that this action made to cut; says where one could not be deleted.
    pub(super) async fn remove_cuts(&self) -> Result<Vec<String>, PortError> {
        let found = security_groups(&self.client, vec![filter("group-name", [groups::cut_name(self.action)])]).await?;
        let mut remarks = Vec::new();
        for id in found.iter().filter_map(|group| group.group_id()) {
            let mut tried = 0;
            loop {
                tried += 1;
                match self.client.delete_security_group().group_id(id).send().await {
                    Err(error) if code(&error) == Some("DependencyViolation") && tried < DELETIONS => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Err(error) if code(&error) == Some("DependencyViolation") => {
                        remarks.push(format!(
                            "{id} allows everything, is used by none of ours and could not be deleted: look"
                        ));
                        break;
                    }
                    Err(error) if code(&error) == Some("InvalidGroup.NotFound") => break,
                    sent => {
                        sent.map_err(|error| problem("ec2:DeleteSecurityGroup", &error))?;
                        break;
                    }
                }
            }
        }
        Ok(remarks)
    }
}

/// The group, for people.
pub(super) fn name(group: &SecurityGroup) -> String {
    format!("the security group {} ({})", group.group_id().unwrap_or_default(), group.group_name().unwrap_or_default())
}

/// Has it no rule at all?
pub(super) fn is_empty(group: &SecurityGroup) -> bool {
    group.ip_permissions().is_empty() && group.ip_permissions_egress().is_empty()
}

/// Did we make it, and is what a new group has all that it has? Then it was not finished.
fn is_unfinished(group: &SecurityGroup) -> bool {
    let ours = group.tags().iter().any(|tag| (tag.key(), tag.value()) == (Some(groups::OURS.0), Some(groups::OURS.1)));
    let fresh = |rule: &IpPermission| {
        rule.ip_protocol() == Some("-1") && rule.user_id_group_pairs().is_empty() && rule.prefix_list_ids().is_empty()
    };
    ours && group.ip_permissions().is_empty() && group.ip_permissions_egress().iter().all(fresh)
}
