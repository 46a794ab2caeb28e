//! `instance_stop` and `instance_terminate`.
//!
//! Where AWS differs from the simulator: both take some seconds to minutes, for which the action waits. A stop loses what is
//! in memory and on instance store volumes, and a public address that is not an Elastic IP. An Auto Scaling group takes a
//! stopped instance for broken and terminates it: `instance_replace` first. A one-time Spot instance cannot be stopped.

use std::sync::Arc;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{InstanceAttributeName, InstanceStateName};
use sakimori_model::Order;
use sakimori_respond::actions::{former, instance, instance_stop, instance_terminate};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::clients::Clients;
use super::ec2::{self, Instance, no_instance};
use super::problem::problem;
use super::{Make, irreversible};

/// `instance_stop`.
pub(super) const INSTANCE_STOP: (&str, Make) = (instance_stop::ID, |clients| Arc::new(Stop(Arc::clone(clients))));
/// `instance_terminate`.
pub(super) const INSTANCE_TERMINATE: (&str, Make) =
    (instance_terminate::ID, |clients| Arc::new(Terminate(Arc::clone(clients))));

/// Seconds after which to ask again how far it is.
const AGAIN: u64 = 5;

struct Stop(Arc<Clients>);

struct Terminate(Arc<Clients>);

/// The instance of an order, and the client that knows it.
async fn target<'a>(clients: &Clients, order: &'a Order) -> Result<(Client, &'a str, Option<Instance>), PortError> {
    let id = instance::id(order).map_err(PortError::permanent)?;
    let client = Client::new(&clients.of(order));
    let found = ec2::instance(&client, id).await?;
    Ok((client, id, found))
}

/// Is the instance protected from being stopped or terminated through the API?
async fn protected(client: &Client, id: &str, attribute: InstanceAttributeName) -> Result<bool, PortError> {
    let sent = client.describe_instance_attribute().instance_id(id).attribute(attribute).send().await;
    let answer = sent.map_err(|error| problem("ec2:DescribeInstanceAttribute", &error))?;
    let set = |value: Option<&aws_sdk_ec2::types::AttributeBooleanValue>| value.and_then(|value| value.value());
    Ok(set(answer.disable_api_stop()).or(set(answer.disable_api_termination())).unwrap_or_default())
}

fn waits(id: &str, state: &InstanceStateName) -> Progress {
    Progress::Pending { what: format!("{id} is {state}"), again: AGAIN }
}

fn done() -> Progress {
    Progress::Done { remark: None }
}

impl Effect for Stop {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let (client, id, found) = target(&self.0, order).await?;
            let Some(found) = found else { return Ok(Look::NoEffect(no_instance(id))) };
            match &found.state {
                InstanceStateName::Running => {}
                InstanceStateName::Pending => return Err(PortError::transient(format!("{id} is being started"))),
                state => return Ok(Look::NoEffect(format!("{id} is {state} already"))),
            }
            if let Some(reason) = found.protected() {
                return Ok(Look::Refused(reason));
            }
            if found.fleeting_root {
                return Ok(Look::Refused(format!(
                    "{id} has no disk that outlives a stop, so that it cannot be stopped"
                )));
            }
            if protected(&client, id, InstanceAttributeName::DisableApiStop).await? {
                return Ok(Look::Refused(format!("{id} is protected from being stopped")));
            }
            let mut would = vec![format!("stop {id}; what is in its memory is lost")];
            would
                .extend(found.public.iter().map(|address| format!("it loses {address}, unless that is an Elastic IP")));
            let former = instance_stop::Former { state: found.state.to_string(), address: found.public };
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let (client, id, found) = target(&self.0, order).await?;
            match found.map(|found| found.state) {
                Some(InstanceStateName::Stopped) => Ok(done()),
                Some(state @ (InstanceStateName::Stopping | InstanceStateName::Pending)) => Ok(waits(id, &state)),
                Some(InstanceStateName::Running) => {
                    let sent = client.stop_instances().instance_ids(id).send().await;
                    sent.map_err(|error| problem("ec2:StopInstances", &error))?;
                    Ok(waits(id, &InstanceStateName::Stopping))
                }
                _ => Err(PortError::permanent(format!("{id} was terminated meanwhile"))),
            }
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let (_, id, found) = target(&self.0, order).await?;
            let state = found.map(|found| found.state);
            Ok(state.filter(|state| *state != InstanceStateName::Stopped).map(|state| format!("{id} is {state}")))
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let (client, id, found) = target(&self.0, order).await?;
            let former: instance_stop::Former =
                former::read(instance_stop::ID, former).map_err(PortError::permanent)?;
            match found.as_ref().map(|found| &found.state) {
                Some(InstanceStateName::Running) => {
                    let now = found.as_ref().and_then(|found| found.public.clone());
                    let other = former.address.as_ref().filter(|address| now.as_ref() != Some(address));
                    let remark = other.map(|before| {
                        format!("its public address is {} now, {before} before", now.as_deref().unwrap_or("none"))
                    });
                    Ok(Progress::Done { remark })
                }
                Some(state @ (InstanceStateName::Stopping | InstanceStateName::Pending)) => Ok(waits(id, state)),
                Some(InstanceStateName::Stopped) => {
                    let sent = client.start_instances().instance_ids(id).send().await;
                    sent.map_err(|error| problem("ec2:StartInstances", &error))?;
                    Ok(waits(id, &InstanceStateName::Pending))
                }
                _ => Ok(Progress::Done { remark: Some(format!("{id} was terminated meanwhile")) }),
            }
        })
    }
}

impl Effect for Terminate {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let (client, id, found) = target(&self.0, order).await?;
            let Some(found) = found else { return Ok(Look::NoEffect(no_instance(id))) };
            if found.is_over() {
                return Ok(Look::NoEffect(format!("{id} is {} already", found.state)));
            }
            if let Some(reason) = found.protected() {
                return Ok(Look::Refused(reason));
            }
            if protected(&client, id, InstanceAttributeName::DisableApiTermination).await? {
                return Ok(Look::Refused(format!(
                    "{id} is protected from termination; lift that by hand where it is meant"
                )));
            }
            let disks: Vec<String> =
                found.volumes.iter().filter(|(_, goes)| **goes).map(|(id, _)| id.clone()).collect();
            let mut would = vec![format!("terminate {id}, which cannot be taken back")];
            if !disks.is_empty() {
                would.push(format!("its disks {} go with it", disks.join(", ")));
            }
            let former = instance_terminate::Former { state: found.state.to_string(), disks };
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let (client, id, found) = target(&self.0, order).await?;
            match found.map(|found| found.state) {
                None | Some(InstanceStateName::Terminated) => Ok(done()),
                Some(state @ InstanceStateName::ShuttingDown) => Ok(waits(id, &state)),
                Some(_) => {
                    let sent = client.terminate_instances().instance_ids(id).send().await;
                    sent.map_err(|error| problem("ec2:TerminateInstances", &error))?;
                    Ok(waits(id, &InstanceStateName::ShuttingDown))
                }
            }
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let (_, id, found) = target(&self.0, order).await?;
            Ok(found.filter(|found| !found.is_over()).map(|found| format!("{id} is {}", found.state)))
        })
    }

    fn undo<'a>(&'a self, _order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move { Err(irreversible(instance_terminate::ID)) })
    }
}
