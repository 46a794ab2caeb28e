//! `instance_detach`: an instance leaves the target groups and classic load balancers that send it requests.
//!
//! How it works: the target groups of the instance's VPC are read, with their targets; an instance is registered by its id or
//! by one of its addresses, perhaps with several ports. Load balancers send it no new request from then on.
//!
//! Where AWS differs from the simulator: requests under way go on for the target group's deregistration delay (300 s by
//! default), which is not waited for. An Auto Scaling group that trusts the load balancer's health checks takes the instance
//! for broken and terminates it: `instance_replace` first. An account has up to 3,000 target groups in a region, and each
//! of the VPC is a call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_elasticloadbalancing::types::Instance as ClassicInstance;
use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealthStateEnum, TargetTypeEnum};
use sakimori_model::Order;
use sakimori_respond::actions::instance_detach::{Former, ID, Registration, name};
use sakimori_respond::actions::{former, instance};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::ec2::{self, MAX_PAGES, no_instance, too_long};
use super::problem::{code, problem};

/// `instance_detach`.
pub(super) const INSTANCE_DETACH: (&str, Make) = (ID, |clients| Arc::new(Detach(Arc::clone(clients))));

struct Detach(Arc<Clients>);

/// Clients of both kinds of load balancers.
struct Balancers {
    groups: aws_sdk_elasticloadbalancingv2::Client,
    classic: aws_sdk_elasticloadbalancing::Client,
}

impl Balancers {
    /// The target groups of a VPC that have instances or addresses as their targets.
    async fn groups(&self, vpc: &str) -> Result<Vec<String>, PortError> {
        let call = "elasticloadbalancing:DescribeTargetGroups";
        let (mut found, mut next) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let sent = self.groups.describe_target_groups().page_size(400).set_marker(next).send().await;
            let page = sent.map_err(|error| problem(call, &error))?;
            let right = |kind: Option<&TargetTypeEnum>| {
                matches!(kind, None | Some(TargetTypeEnum::Instance | TargetTypeEnum::Ip))
            };
            let here = page.target_groups().iter().filter(|one| one.vpc_id() == Some(vpc) && right(one.target_type()));
            found.extend(here.filter_map(|one| one.target_group_arn()).map(str::to_owned));
            next = page.next_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(too_long(call))
    }

    /// Registrations in a target group under one of these ids that are in use; `None` where there is no such group.
    async fn registrations(&self, group: &str, ids: &BTreeSet<&str>) -> Result<Option<Vec<Registration>>, PortError> {
        let answer = match self.groups.describe_target_health().target_group_arn(group).send().await {
            Err(error) if code(&error) == Some("TargetGroupNotFound") => return Ok(None),
            answer => answer.map_err(|error| problem("elasticloadbalancing:DescribeTargetHealth", &error))?,
        };
        let read = |one: &aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| {
            let leaves = one.target_health().and_then(|health| health.state()).is_some_and(|state| {
                matches!(state, TargetHealthStateEnum::Draining | TargetHealthStateEnum::UnhealthyDraining)
            });
            let target = one.target().filter(|_| !leaves)?;
            let id = target.id().filter(|id| ids.contains(id))?.to_owned();
            let (port, zone) = (target.port(), target.availability_zone().map(str::to_owned));
            let quic = target.quic_server_id().map(str::to_owned);
            Some(Registration { group: group.to_owned(), id, port, zone, quic })
        };
        let mut found: Vec<Registration> = answer.target_health_descriptions().iter().filter_map(read).collect();
        found.sort();
        Ok(Some(found))
    }

    /// The classic load balancers by name, and whether they have the instance.
    async fn classic(&self, id: &str) -> Result<BTreeMap<String, bool>, PortError> {
        let call = "elasticloadbalancing:DescribeLoadBalancers";
        let (mut found, mut next) = (BTreeMap::new(), None);
        for _ in 0..MAX_PAGES {
            let sent = self.classic.describe_load_balancers().page_size(400).set_marker(next).send().await;
            let page = sent.map_err(|error| problem(call, &error))?;
            found.extend(page.load_balancer_descriptions().iter().filter_map(|one| {
                let has = one.instances().iter().any(|instance| instance.instance_id() == Some(id));
                Some((one.load_balancer_name()?.to_owned(), has))
            }));
            next = page.next_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(too_long(call))
    }

    /// What of the former registrations there is now, and which target groups are gone.
    async fn now(&self, former: &Former) -> Result<(Vec<Registration>, BTreeSet<String>), PortError> {
        let ids: BTreeSet<&str> = former.targets.iter().map(|one| one.id.as_str()).collect();
        let groups: BTreeSet<&str> = former.targets.iter().map(|one| one.group.as_str()).collect();
        let (mut now, mut gone) = (Vec::new(), BTreeSet::new());
        for group in groups {
            match self.registrations(group, &ids).await? {
                Some(found) => now.extend(found),
                None => {
                    gone.insert(group.to_owned());
                }
            }
        }
        Ok((now, gone))
    }
}

fn target(one: &Registration) -> TargetDescription {
    let (port, zone, quic) = (one.port, one.zone.clone(), one.quic.clone());
    TargetDescription::builder().id(&one.id).set_port(port).set_availability_zone(zone).set_quic_server_id(quic).build()
}

impl Detach {
    fn balancers(&self, order: &Order) -> Balancers {
        let config = self.0.of(order);
        let groups = aws_sdk_elasticloadbalancingv2::Client::new(&config);
        Balancers { groups, classic: aws_sdk_elasticloadbalancing::Client::new(&config) }
    }
}

impl Effect for Detach {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let found = ec2::instance(&aws_sdk_ec2::Client::new(&self.0.of(order)), id).await?;
            let Some(found) = found else { return Ok(Look::NoEffect(no_instance(id))) };
            if let Some(reason) = found.protected() {
                return Ok(Look::Refused(reason));
            }
            let balancers = self.balancers(order);
            let ids: BTreeSet<&str> = found.addresses.iter().map(String::as_str).chain([id]).collect();
            let classic = balancers.classic(id).await?.into_iter().filter(|(_, has)| *has).map(|(name, _)| name);
            let mut former = Former { balancers: classic.collect(), ..Former::default() };
            for group in balancers.groups(&found.vpc).await? {
                former.targets.extend(balancers.registrations(&group, &ids).await?.unwrap_or_default());
            }
            if former == Former::default() {
                return Ok(Look::NoEffect(format!("no load balancer sends requests to {id}")));
            }
            let port = |one: &Registration| one.port.map(|port| format!(" with port {port}")).unwrap_or_default();
            let leave = |one: &Registration| {
                format!("take {}{} out of the target group {}", one.id, port(one), name(&one.group))
            };
            let mut would: Vec<String> = former.targets.iter().map(leave).collect();
            would.extend(former.balancers.iter().map(|name| format!("take {id} out of the load balancer {name}")));
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let balancers = self.balancers(order);
            let (now, gone) = balancers.now(&former).await?;
            for one in former.targets.iter().filter(|one| now.contains(one)) {
                let sent =
                    balancers.groups.deregister_targets().target_group_arn(&one.group).targets(target(one)).send();
                match sent.await {
                    // It was taken out by others in this moment, or the group was.
                    Err(error) if matches!(code(&error), Some("InvalidTarget" | "TargetGroupNotFound")) => {}
                    sent => {
                        sent.map_err(|error| problem("elasticloadbalancing:DeregisterTargets", &error))?;
                    }
                }
            }
            let has = match former.balancers.is_empty() {
                true => BTreeMap::new(),
                false => balancers.classic(id).await?,
            };
            for name in former.balancers.iter().filter(|name| has.get(*name) == Some(&true)) {
                let instance = ClassicInstance::builder().instance_id(id).build();
                let sent = balancers.classic.deregister_instances_from_load_balancer().load_balancer_name(name);
                match sent.instances(instance).send().await {
                    Err(error) if matches!(code(&error), Some("InvalidInstance" | "LoadBalancerNotFound")) => {}
                    sent => {
                        let call = "elasticloadbalancing:DeregisterInstancesFromLoadBalancer";
                        sent.map_err(|error| problem(call, &error))?;
                    }
                }
            }
            let mut remarks = vec!["requests that are under way end within the deregistration delay".to_owned()];
            remarks.extend(gone.iter().map(|group| format!("the target group {} was deleted meanwhile", name(group))));
            Ok(Progress::Done { remark: Some(remarks.join("; ")) })
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let balancers = self.balancers(order);
            let (now, _) = balancers.now(&former).await?;
            if let Some(one) = now.iter().find(|one| former.targets.contains(one)) {
                return Ok(Some(format!("{} is still a target of {}", one.id, name(&one.group))));
            }
            let has = match former.balancers.is_empty() {
                true => BTreeMap::new(),
                false => balancers.classic(id).await?,
            };
            let left = former.balancers.iter().find(|name| has.get(*name) == Some(&true));
            Ok(left.map(|name| format!("the load balancer {name} still has {id}")))
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let there = ec2::instance(&aws_sdk_ec2::Client::new(&self.0.of(order)), id).await?;
            if there.is_none_or(|found| found.is_over()) {
                return Ok(Progress::Done { remark: Some(format!("{id} was terminated meanwhile")) });
            }
            let balancers = self.balancers(order);
            let (now, gone) = balancers.now(&former).await?;
            let mut remarks: Vec<String> =
                gone.iter().map(|group| format!("the target group {} was deleted meanwhile", name(group))).collect();
            for one in former.targets.iter().filter(|one| !now.contains(one) && !gone.contains(&one.group)) {
                let sent = balancers.groups.register_targets().target_group_arn(&one.group).targets(target(one)).send();
                match sent.await {
                    Err(error) if code(&error) == Some("TargetGroupNotFound") => {
                        remarks.push(format!("the target group {} was deleted meanwhile", name(&one.group)));
                    }
                    // A target group takes running instances only: it may be on its way.
                    Err(error) if code(&error) == Some("InvalidTarget") => {
                        let reason = problem("elasticloadbalancing:RegisterTargets", &error).to_string();
                        return Err(PortError::transient(reason));
                    }
                    sent => {
                        sent.map_err(|error| problem("elasticloadbalancing:RegisterTargets", &error))?;
                    }
                }
            }
            let has = match former.balancers.is_empty() {
                true => BTreeMap::new(),
                false => balancers.classic(id).await?,
            };
            for name in former.balancers.iter().filter(|name| has.get(*name) != Some(&true)) {
                if !has.contains_key(name) {
                    remarks.push(format!("the load balancer {name} was deleted meanwhile"));
                    continue;
                }
                let instance = ClassicInstance::builder().instance_id(id).build();
                let sent = balancers.classic.register_instances_with_load_balancer().load_balancer_name(name);
                let call = "elasticloadbalancing:RegisterInstancesWithLoadBalancer";
                sent.instances(instance).send().await.map_err(|error| problem(call, &error))?;
            }
            Ok(Progress::Done { remark: (!remarks.is_empty()).then(|| remarks.join("; ")) })
        })
    }
}
