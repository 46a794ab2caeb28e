//! AWS Lambda: a function is run no more, by a reserved concurrency of 0; and back.
//!
//! Where AWS differs from the simulator: what runs now ends by itself within its time limit; callers that wait (queues,
//! streams) try again, and their messages may grow too old meanwhile.

use std::sync::Arc;

use aws_sdk_lambda::Client;
use sakimori_model::Order;
use sakimori_respond::actions::function_stop::{self, Former, function};
use sakimori_respond::former;
use sakimori_respond::ports::{Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::problem::{code, problem};
use super::steps::{Of, Steps, done, remarked};

/// `function_stop`.
pub(super) const STOP: (&str, Make) = (function_stop::ID, |clients| Arc::new(Of(Stop(Arc::clone(clients)))));

struct Stop(Arc<Clients>);

/// The reserved concurrency, where the function is there.
async fn reserved(client: &Client, function: &str) -> Result<Option<Option<i32>>, PortError> {
    match client.get_function_concurrency().function_name(function).send().await {
        Ok(answer) => Ok(Some(answer.reserved_concurrent_executions)),
        Err(error) if code(&error) == Some("ResourceNotFoundException") => Ok(None),
        Err(error) => Err(problem("lambda:GetFunctionConcurrency", &error)),
    }
}

async fn put(client: &Client, function: &str, number: i32) -> Result<Progress, PortError> {
    let sent = client.put_function_concurrency().function_name(function).reserved_concurrent_executions(number).send();
    sent.await.map_err(|error| problem("lambda:PutFunctionConcurrency", &error))?;
    done()
}

impl Steps for Stop {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let function = function(order).map_err(PortError::permanent)?;
        Ok(match reserved(&Client::new(&self.0.of(order)), function).await? {
            None => Look::NoEffect(format!("there is no function {function} in this account and region")),
            Some(Some(0)) => Look::NoEffect(format!("the function {function} is stopped already")),
            Some(reserved) => Look::Ready {
                would: vec![format!("set the reserved concurrency of the function {function} to 0: it is run no more")],
                former: former::write(&Former { reserved }),
            },
        })
    }

    async fn apply(&self, order: &Order, _: &str) -> Result<Progress, PortError> {
        let function = function(order).map_err(PortError::permanent)?;
        let client = Client::new(&self.0.of(order));
        match reserved(&client, function).await? {
            Some(Some(0)) => done(),
            _ => put(&client, function, 0).await,
        }
    }

    async fn verify(&self, order: &Order, _: &str) -> Result<Option<String>, PortError> {
        let function = function(order).map_err(PortError::permanent)?;
        let now = reserved(&Client::new(&self.0.of(order)), function).await?;
        Ok((now != Some(Some(0))).then(|| format!("the reserved concurrency of {function} is not 0")))
    }

    async fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let function = function(order).map_err(PortError::permanent)?;
        let former: Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = Client::new(&self.0.of(order));
        match (reserved(&client, function).await?, former.reserved) {
            (None, _) => remarked(format!("the function {function} was deleted meanwhile")),
            // Written also where it is read as before already: it may be read late.
            (Some(Some(now)), Some(number)) if now == 0 || now == number => put(&client, function, number).await,
            (Some(Some(0) | None), None) => {
                let sent = client.delete_function_concurrency().function_name(function).send().await;
                sent.map_err(|error| problem("lambda:DeleteFunctionConcurrency", &error))?;
                done()
            }
            _ => remarked(format!("somebody changed the reserved concurrency of {function} meanwhile; that is kept")),
        }
    }
}
