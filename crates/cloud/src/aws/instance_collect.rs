//! `instance_collect`: a command of AWS Systems Manager that reads what an investigation begins with.
//!
//! How it works: the command's comment carries the action's id; what is there already under this comment is not sent again.
//!
//! Where AWS differs from the simulator: a command takes seconds to minutes; the listing of commands is eventually consistent
//! and goes back 30 days; the answer holds the first 24,000 characters of the output, the bucket all of it. An instance that
//! is isolated does not hear Systems Manager: collect first.

use std::sync::Arc;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::{
    Command, CommandFilter, CommandFilterKey, CommandInvocationStatus, InstanceInformationStringFilter, PingStatus,
    PlatformType,
};
use sakimori_model::Order;
use sakimori_respond::actions::instance_collect::{self, DOCUMENT, Former, ID, MAX_SECONDS};
use sakimori_respond::actions::{former, instance};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::clients::Clients;
use super::ec2::{MAX_PAGES, too_long};
use super::problem::{code, problem};
use super::{Make, irreversible};

/// `instance_collect`.
pub(super) const INSTANCE_COLLECT: (&str, Make) = (ID, |clients| Arc::new(Collect(Arc::clone(clients))));

/// Seconds after which to ask again whether it is over.
const AGAIN: u64 = 5;
/// Seconds in which the instance has to take the command.
const MAX_WAIT: i32 = 600;

struct Collect(Arc<Clients>);

/// The command that this action sent to the instance.
async fn sent(client: &Client, action: &str, id: &str) -> Result<Option<String>, PortError> {
    let call = "ssm:ListCommands";
    let comment = instance_collect::comment(action);
    let ours = |command: &&Command| command.comment() == Some(comment.as_str());
    let mut next = None;
    for _ in 0..MAX_PAGES {
        let document = CommandFilter::builder().key(CommandFilterKey::DocumentName).value(DOCUMENT).build();
        let document = document.map_err(|error| PortError::permanent(format!("{call}: {error}")))?;
        let asked = client.list_commands().instance_id(id).filters(document).max_results(50).set_next_token(next);
        let page = match asked.send().await {
            Err(error) if code(&error) == Some("InvalidInstanceId") => return Ok(None),
            page => page.map_err(|error| problem(call, &error))?,
        };
        if let Some(found) = page.commands().iter().find(ours) {
            return Ok(found.command_id().map(str::to_owned));
        }
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(None);
        }
    }
    Err(too_long(call))
}

/// How far the command is: its state and what it printed; `None` where the instance is not known to have it yet.
async fn state(
    client: &Client,
    command: &str,
    id: &str,
) -> Result<Option<(CommandInvocationStatus, String)>, PortError> {
    let answer = match client.get_command_invocation().command_id(command).instance_id(id).send().await {
        Err(error) if code(&error) == Some("InvocationDoesNotExist") => return Ok(None),
        answer => answer.map_err(|error| problem("ssm:GetCommandInvocation", &error))?,
    };
    let state = answer.status().cloned().unwrap_or(CommandInvocationStatus::Pending);
    let mut output = answer.standard_output_content().unwrap_or_default().to_owned();
    if output.is_empty() || state != CommandInvocationStatus::Success {
        output.push_str(answer.standard_error_content().unwrap_or_default());
    }
    Ok(Some((state, output)))
}

impl Collect {
    async fn send(&self, order: &Order, id: &str) -> Result<String, PortError> {
        let bucket = instance_collect::bucket(order).map_err(PortError::permanent)?;
        let client = Client::new(&self.0.once(order));
        let mut sent = client.send_command().instance_ids(id).document_name(DOCUMENT).timeout_seconds(MAX_WAIT);
        sent = sent.comment(instance_collect::comment(&order.id));
        sent = sent.parameters("commands", instance_collect::script());
        sent = sent.parameters("executionTimeout", vec![MAX_SECONDS.to_string()]);
        if let Some(bucket) = bucket {
            sent = sent.output_s3_bucket_name(bucket).output_s3_key_prefix(format!("sakimori/{}", order.id));
        }
        let answer = sent.send().await.map_err(|error| problem("ssm:SendCommand", &error))?;
        let command = answer.command().and_then(|command| command.command_id()).map(str::to_owned);
        command.ok_or_else(|| PortError::transient("ssm:SendCommand: the answer names no command"))
    }
}

impl Effect for Collect {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let bucket = instance_collect::bucket(order).map_err(PortError::permanent)?;
            let client = Client::new(&self.0.of(order));
            let which = InstanceInformationStringFilter::builder().key("InstanceIds").values(id).build();
            let which = which.map_err(|error| PortError::permanent(error.to_string()))?;
            let asked = client.describe_instance_information().filters(which).send().await;
            let answer = asked.map_err(|error| problem("ssm:DescribeInstanceInformation", &error))?;
            let Some(found) = answer.instance_information_list().iter().find(|one| one.instance_id() == Some(id))
            else {
                let remedy = "its SSM agent has to run, with a role that has AmazonSSMManagedInstanceCore";
                return Ok(Look::NoEffect(format!("Systems Manager does not know {id}: {remedy}")));
            };
            if found.platform_type() == Some(&PlatformType::Windows) {
                return Ok(Look::Refused(format!("{id} runs Windows; what is collected is for Linux")));
            }
            if found.ping_status() != Some(&PingStatus::Online) {
                return Ok(Look::NoEffect(format!(
                    "{id} does not answer Systems Manager; was it isolated or stopped?"
                )));
            }
            let to = bucket.map(|bucket| format!(", the whole of it into the bucket {bucket}")).unwrap_or_default();
            let would = vec![format!("run {DOCUMENT} on {id}, which reads what runs, listens and starts there{to}")];
            let former = Former { document: DOCUMENT.to_owned() };
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let client = Client::new(&self.0.of(order));
            let command = match sent(&client, &order.id, id).await? {
                Some(command) => command,
                None => self.send(order, id).await?,
            };
            let wait = Progress::Pending { what: format!("the command {command} on {id}"), again: AGAIN };
            match state(&client, &command, id).await? {
                Some((CommandInvocationStatus::Success, output)) => {
                    let kept = instance_collect::kept(&output);
                    Ok(Progress::Done { remark: Some(format!("the command {command} answered:\n{kept}")) })
                }
                Some((
                    state @ (CommandInvocationStatus::Failed
                    | CommandInvocationStatus::TimedOut
                    | CommandInvocationStatus::Cancelled),
                    output,
                )) => {
                    let kept = instance_collect::kept(&output);
                    Err(PortError::permanent(format!("the command {command} on {id}: {state}; it printed:\n{kept}")))
                }
                _ => Ok(wait),
            }
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let client = Client::new(&self.0.of(order));
            let Some(command) = sent(&client, &order.id, id).await? else {
                return Ok(Some(format!("no command of this action is to be seen on {id}")));
            };
            let state = state(&client, &command, id).await?.map(|(state, _)| state);
            Ok((state != Some(CommandInvocationStatus::Success)).then(|| format!("the command {command} is not over")))
        })
    }

    fn undo<'a>(&'a self, _order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move { Err(irreversible(ID)) })
    }
}
