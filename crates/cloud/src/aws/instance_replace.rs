//! `instance_replace`: an instance leaves its Auto Scaling group, on standby or detached, and another comes in its place.
//!
//! How it works: the state of the instance in its group says what is left to do, and no call is repeated without looking at it
//! again, so that the desired capacity is changed at most once. The way back makes the group want one more than before, where another instance came in its place: which of
//! them is to go then is the owner's choice, so none is, and the remark says so.
//!
//! An instance that waits in a lifecycle hook of its launch cannot leave. Where the order says so, its hooks are completed first;
//! which of several it waits in AWS does not say, so each is, and what does not wait is passed over. One that waits in a hook of its
//! termination goes anyway; that is left to its group.
//!
//! Where AWS differs from the simulator, which has no hooks: entering standby and detaching take up to minutes (load balancers
//! drain first), for which the action waits. Scaling policies may change the desired capacity meanwhile. A group that is at
//! its maximum takes no instance back.

use std::sync::Arc;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::AutoScalingGroup;
use sakimori_model::Order;
use sakimori_respond::actions::instance_replace::{Former, How, ID, completes, how};
use sakimori_respond::actions::{former, instance};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::ec2;
use super::problem::problem;

/// `instance_replace`.
pub(super) const INSTANCE_REPLACE: (&str, Make) = (ID, |clients| Arc::new(Replace(Arc::clone(clients))));

/// Seconds after which to ask again how far it is.
const AGAIN: u64 = 5;

struct Replace(Arc<Clients>);

/// Where an instance is.
struct Place {
    group: String,
    /// As AWS writes it: `InService`, `EnteringStandby`, `Standby`, `Detaching`.
    state: String,
    protected: bool,
}

async fn place(client: &Client, id: &str) -> Result<Option<Place>, PortError> {
    let sent = client.describe_auto_scaling_instances().instance_ids(id).send().await;
    let answer = sent.map_err(|error| problem("autoscaling:DescribeAutoScalingInstances", &error))?;
    let found = answer.auto_scaling_instances().iter().find(|one| one.instance_id() == Some(id));
    Ok(found.map(|one| Place {
        group: one.auto_scaling_group_name().unwrap_or_default().to_owned(),
        state: one.lifecycle_state().unwrap_or_default().to_owned(),
        protected: one.protected_from_scale_in().unwrap_or_default(),
    }))
}

async fn group(client: &Client, name: &str) -> Result<Option<AutoScalingGroup>, PortError> {
    let sent = client.describe_auto_scaling_groups().auto_scaling_group_names(name).send().await;
    let answer = sent.map_err(|error| problem("autoscaling:DescribeAutoScalingGroups", &error))?;
    Ok(answer.auto_scaling_groups().iter().find(|one| one.auto_scaling_group_name() == Some(name)).cloned())
}

/// The state of who waits in a hook of its launch, and what such hooks are for.
const PENDING: &str = "Pending:Wait";
const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";

/// Names of the group's hooks in which launched instances wait.
async fn hooks(client: &Client, group: &str) -> Result<Vec<String>, PortError> {
    let sent = client.describe_lifecycle_hooks().auto_scaling_group_name(group).send().await;
    let answer = sent.map_err(|error| problem("autoscaling:DescribeLifecycleHooks", &error))?;
    let launching = answer.lifecycle_hooks().iter().filter(|hook| hook.lifecycle_transition() == Some(LAUNCHING));
    Ok(launching.filter_map(|hook| hook.lifecycle_hook_name().map(str::to_owned)).collect())
}

/// What AWS said of a call that it refused as not valid.
fn said<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    let service = error.as_service_error().filter(|error| error.code() == Some("ValidationError"));
    service.and_then(ProvideErrorMetadata::message).unwrap_or_default()
}

/// Ends the wait of an instance in hooks of its launch.
async fn complete(client: &Client, group: &str, id: &str) -> Result<(), PortError> {
    for hook in hooks(client, group).await? {
        let sent = client.complete_lifecycle_action().auto_scaling_group_name(group).lifecycle_hook_name(hook);
        match sent.instance_id(id).lifecycle_action_result("CONTINUE").send().await {
            Ok(_) => {}
            // It does not wait in this one, or not any more.
            Err(error) if said(&error).contains("No active Lifecycle Action") => {}
            Err(error) => return Err(problem("autoscaling:CompleteLifecycleAction", &error)),
        }
    }
    Ok(())
}

fn desired(group: &AutoScalingGroup) -> i32 {
    group.desired_capacity().unwrap_or_default()
}

fn waits(id: &str, state: &str) -> Progress {
    Progress::Pending { what: format!("{id} is {state}"), again: AGAIN }
}

impl Replace {
    fn target<'a>(&self, order: &'a Order) -> Result<(Client, &'a str), PortError> {
        let id = instance::id(order).map_err(PortError::permanent)?;
        Ok((Client::new(&self.0.of(order)), id))
    }

    /// The client for what changes the desired capacity.
    fn once(&self, order: &Order) -> Client {
        Client::new(&self.0.once(order))
    }

    /// A call that failed, perhaps since the instance is on its way already: looks again, and else says what is wrong.
    async fn on_its_way(client: &Client, id: &str, problem: PortError) -> Result<Progress, PortError> {
        match place(client, id).await? {
            Some(now) if now.state == "InService" => Err(problem),
            Some(now) => Ok(waits(id, &now.state)),
            None => Ok(waits(id, "Detached")),
        }
    }

    async fn leave(client: &Client, once: &Client, id: &str, former: &Former) -> Result<Progress, PortError> {
        let done = |words: &str| {
            let more = match former.how {
                How::StandbyLess => "which does with one less",
                How::Detach | How::Standby => "which launches another in its place",
            };
            Ok(Progress::Done { remark: Some(format!("{id} {words} the group {}, {more}", former.group)) })
        };
        let now = place(client, id).await?.filter(|place| place.group == former.group);
        match (former.how, now.as_ref().map(|place| place.state.as_str())) {
            (How::Detach, None) => done("left"),
            (How::Standby | How::StandbyLess, Some("Standby")) => done("is on standby in"),
            (How::Standby | How::StandbyLess, None) => {
                Err(PortError::permanent(format!("{id} left the group {} meanwhile", former.group)))
            }
            (How::Detach, Some("InService" | "Standby")) => {
                let sent = once.detach_instances().auto_scaling_group_name(&former.group).instance_ids(id);
                match sent.should_decrement_desired_capacity(false).send().await {
                    Ok(_) => Ok(waits(id, "Detaching")),
                    Err(error) => Self::on_its_way(client, id, problem("autoscaling:DetachInstances", &error)).await,
                }
            }
            (How::Standby | How::StandbyLess, Some("InService")) => {
                let sent = once.enter_standby().auto_scaling_group_name(&former.group).instance_ids(id);
                let less = former.how == How::StandbyLess;
                match sent.should_decrement_desired_capacity(less).send().await {
                    Ok(_) => Ok(waits(id, "EnteringStandby")),
                    Err(error) => Self::on_its_way(client, id, problem("autoscaling:EnterStandby", &error)).await,
                }
            }
            (_, Some(PENDING)) if former.complete => {
                complete(client, &former.group, id).await?;
                Ok(waits(id, "leaving the hooks of its launch"))
            }
            (_, Some(state)) if state.starts_with("Terminat") => {
                Err(PortError::permanent(format!("{id} is being terminated by its group")))
            }
            (_, Some(state)) => Ok(waits(id, state)),
        }
    }

    async fn come_back(client: &Client, once: &Client, id: &str, former: &Former) -> Result<(), PortError> {
        let full = |group: &AutoScalingGroup| {
            let most = group.max_size().unwrap_or_default();
            let reason =
                format!("the group {} is at its maximum of {most}: raise it, or lower what it wants", former.group);
            (desired(group) >= most).then(|| PortError::permanent(reason))
        };
        let Some(there) = group(client, &former.group).await? else { return Ok(()) };
        if let Some(full) = full(&there) {
            return Err(full);
        }
        match former.how {
            How::Detach => {
                let sent = once.attach_instances().auto_scaling_group_name(&former.group).instance_ids(id).send().await;
                sent.map_err(|error| problem("autoscaling:AttachInstances", &error)).map(|_| ())
            }
            How::Standby | How::StandbyLess => {
                let sent = once.exit_standby().auto_scaling_group_name(&former.group).instance_ids(id).send().await;
                sent.map_err(|error| problem("autoscaling:ExitStandby", &error)).map(|_| ())
            }
        }
    }

    /// The instance is in service again: its protection, and what a person should know.
    async fn settle(client: &Client, id: &str, former: &Former, now: &Place) -> Result<Progress, PortError> {
        if now.protected != former.protected {
            let sent = client.set_instance_protection().auto_scaling_group_name(&former.group).instance_ids(id);
            let sent = sent.protected_from_scale_in(former.protected).send().await;
            sent.map_err(|error| problem("autoscaling:SetInstanceProtection", &error))?;
        }
        let wants = group(client, &former.group).await?.map_or(former.desired, |group| desired(&group));
        let remark = (wants != former.desired).then(|| {
            let (group, before) = (&former.group, former.desired);
            format!("the group {group} wants {wants} instances now, {before} before: lower it where the other is to go")
        });
        Ok(Progress::Done { remark })
    }
}

impl Effect for Replace {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let (client, id) = self.target(order)?;
            let how = how(order).map_err(PortError::permanent)?;
            let completes = completes(order).map_err(PortError::permanent)?;
            let Some(now) = place(&client, id).await? else {
                return Ok(Look::NoEffect(format!("{id} is in no Auto Scaling group of this account and region")));
            };
            let found = ec2::instance(&aws_sdk_ec2::Client::new(&self.0.of(order)), id).await?;
            if let Some(reason) = found.and_then(|found| found.protected()) {
                return Ok(Look::Refused(reason));
            }
            match (how, now.state.as_str()) {
                (_, "InService") | (How::Detach, "Standby") => {}
                (_, PENDING) if completes => {}
                (_, "Standby") => return Ok(Look::NoEffect(format!("{id} is on standby already"))),
                (_, state) if state.starts_with("Terminat") || state.starts_with("Detach") => {
                    return Ok(Look::NoEffect(format!("{id} leaves its group already ({state})")));
                }
                (_, state) => return Err(PortError::transient(format!("{id} is {state} in its group"))),
            }
            let Some(there) = group(&client, &now.group).await? else {
                return Err(PortError::transient(format!("the group {} is not to be seen", now.group)));
            };
            let (wants, least) = (desired(&there), there.min_size().unwrap_or_default());
            if how == How::StandbyLess && wants <= least {
                let reason = format!(
                    "the group {} has its minimum of {least} instances, so that it cannot do with less",
                    now.group
                );
                return Ok(Look::Refused(reason));
            }
            let mut would = vec![match how {
                How::Detach => format!("detach {id} from the group {}, which launches another in its place", now.group),
                How::Standby => {
                    format!("put {id} on standby in the group {}, which launches another in its place", now.group)
                }
                How::StandbyLess => {
                    format!("put {id} on standby in the group {}, which then wants {}", now.group, wants - 1)
                }
            }];
            if now.state == PENDING {
                let hooks = hooks(&client, &now.group).await?.join(", ");
                would.insert(0, format!("complete the lifecycle hooks {hooks}, in which {id} waits"));
            }
            if how != How::StandbyLess {
                would.push("after the undo the group wants one more than now, since both are there".to_owned());
            }
            let former =
                Former { group: now.group, how, desired: wants, protected: now.protected, complete: completes };
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let (client, id) = self.target(order)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            Self::leave(&client, &self.once(order), id, &former).await
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let (client, id) = self.target(order)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let now = place(&client, id).await?.filter(|place| place.group == former.group);
            Ok(match (former.how, now) {
                (How::Detach, Some(place)) => Some(format!("{id} is {} in the group {}", place.state, place.group)),
                (How::Standby | How::StandbyLess, Some(place)) if place.state != "Standby" => {
                    Some(format!("{id} is {} in the group {}", place.state, place.group))
                }
                _ => None,
            })
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let (client, id) = self.target(order)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let there = ec2::instance(&aws_sdk_ec2::Client::new(&self.0.of(order)), id).await?;
            if there.is_none_or(|found| found.is_over()) {
                return Ok(Progress::Done { remark: Some(format!("{id} was terminated meanwhile")) });
            }
            if group(&client, &former.group).await?.is_none() {
                return Ok(Progress::Done {
                    remark: Some(format!("the group {} was deleted meanwhile", former.group)),
                });
            }
            match place(&client, id).await? {
                Some(now) if now.group != former.group => {
                    let remark = format!("{id} is in the group {} now, where it stays", now.group);
                    Ok(Progress::Done { remark: Some(remark) })
                }
                Some(now) if now.state == "InService" => Self::settle(&client, id, &former, &now).await,
                Some(now) if now.state == "Standby" && former.how != How::Detach => {
                    Self::come_back(&client, &self.once(order), id, &former).await?;
                    Ok(waits(id, "leaving standby"))
                }
                // Detaching had not begun.
                Some(now) if now.state == "Standby" => Ok(Progress::Done { remark: None }),
                Some(now) => Ok(waits(id, &now.state)),
                None if former.how == How::Detach => {
                    Self::come_back(&client, &self.once(order), id, &former).await?;
                    Ok(waits(id, "being attached"))
                }
                None => {
                    let remark = format!("{id} left the group {} meanwhile", former.group);
                    Ok(Progress::Done { remark: Some(remark) })
                }
            }
        })
    }
}
