//! `instance_isolate`: all network interfaces of an instance go into an isolation group.
//!
//! How it works, and where AWS differs from the simulator: [`super::isolation`]. An instance that is isolated cannot be
//! reached by Systems Manager either, and the health check of a load balancer or an Auto Scaling group takes it for broken:
//! take it out of both first (`instance_detach`, `instance_replace`), or the group terminates it with its evidence.

use std::sync::Arc;

use aws_sdk_ec2::Client;
use sakimori_model::Order;
use sakimori_respond::actions::instance_isolate::ID;
use sakimori_respond::actions::{former, groups, instance};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::ec2::{self, Interface, filter, no_instance};
use super::isolation::Isolation;

/// `instance_isolate`.
pub(super) const INSTANCE_ISOLATE: (&str, Make) = (ID, |clients| Arc::new(Isolate(Arc::clone(clients))));

struct Isolate(Arc<Clients>);

impl Isolate {
    fn isolation<'a>(&self, order: &'a Order) -> Result<Isolation<'a>, PortError> {
        let what = instance::id(order).map_err(PortError::permanent)?;
        let wanted = groups::wanted(order).map_err(PortError::permanent)?;
        Ok(Isolation { client: Client::new(&self.0.of(order)), action: &order.id, wanted, what })
    }
}

async fn interfaces(isolation: &Isolation<'_>) -> Result<Vec<Interface>, PortError> {
    ec2::interfaces(&isolation.client, vec![filter("attachment.instance-id", [isolation.what])]).await
}

impl Effect for Isolate {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let isolation = self.isolation(order)?;
            let id = isolation.what;
            match ec2::instance(&isolation.client, id).await? {
                None => return Ok(Look::NoEffect(no_instance(id))),
                Some(found) if found.is_over() => return Ok(Look::NoEffect(format!("{id} is terminated"))),
                Some(found) => {
                    if let Some(reason) = found.protected() {
                        return Ok(Look::Refused(reason));
                    }
                }
            }
            match isolation.look(id, &interfaces(&isolation).await?).await? {
                Ok((held, would)) => {
                    Ok(Look::Ready { former: former::write(&held).map_err(PortError::permanent)?, would })
                }
                Err(obstacle) => Ok(obstacle.into()),
            }
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let isolation = self.isolation(order)?;
            let held = former::read(ID, former).map_err(PortError::permanent)?;
            isolation.apply(&held, &interfaces(&isolation).await?).await
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let isolation = self.isolation(order)?;
            isolation.verify(&interfaces(&isolation).await?).await
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let isolation = self.isolation(order)?;
            let held = former::read(ID, former).map_err(PortError::permanent)?;
            let tags = ec2::instance(&isolation.client, isolation.what).await?.map(|found| found.tags);
            isolation.undo(&held, &tags.unwrap_or_default()).await
        })
    }
}
