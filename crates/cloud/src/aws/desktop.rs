//! `desktop_isolate` and `desktop_stop`: a virtual desktop of Amazon WorkSpaces.
//!
//! How it works: the desktop is looked for among all of the region's ([`sakimori_respond::actions::desktop`] says which one is
//! meant), its network interface by address and subnet. Which one it was is written down, so that a later step cannot take
//! another. The interface goes into an isolation group ([`super::isolation`]).
//!
//! Where AWS differs from the simulator, which knows neither addresses nor stopping: a desktop's second interface is in AWS's
//! own network, so that its user stays signed in to an isolated desktop; it stops and starts within minutes. Only a desktop
//! with the running mode AutoStop or Manual can be stopped, and one with AutoStop starts again when its user signs in. A
//! desktop that is rebuilt has a new interface with the directory's groups. Listings have 25 desktops a page and are throttled.

use std::sync::Arc;

use aws_sdk_workspaces::Client;
use aws_sdk_workspaces::types::{RunningMode, StartRequest, StopRequest, Workspace, WorkspaceState};
use sakimori_model::Order;
use sakimori_respond::actions::desktop::{self, Desktop, Hint, Which};
use sakimori_respond::actions::{desktop_isolate, desktop_stop, former, groups};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::ec2::{self, Interface, filter};
use super::isolation::Isolation;
use super::problem::{code, problem};

/// `desktop_isolate`.
pub(super) const DESKTOP_ISOLATE: (&str, Make) =
    (desktop_isolate::ID, |clients| Arc::new(Isolate(Arc::clone(clients))));
/// `desktop_stop`.
pub(super) const DESKTOP_STOP: (&str, Make) = (desktop_stop::ID, |clients| Arc::new(Stop(Arc::clone(clients))));

/// Most pages of desktops that are looked through, of 25 each.
const MAX_PAGES: usize = 400;
/// Seconds after which to ask again how far it is.
const AGAIN: u64 = 15;

struct Isolate(Arc<Clients>);

struct Stop(Arc<Clients>);

fn read(one: &Workspace) -> Desktop {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let over = matches!(one.state(), Some(WorkspaceState::Terminated | WorkspaceState::Terminating));
    Desktop {
        id: text(one.workspace_id()),
        name: text(one.computer_name()),
        user: text(one.user_name()),
        address: text(one.ip_address()),
        directory: text(one.directory_id()),
        alive: !over,
    }
}

/// All desktops of the region, or the one of this id.
async fn desktops(client: &Client, id: Option<&str>) -> Result<Vec<Workspace>, PortError> {
    let call = "workspaces:DescribeWorkspaces";
    let (mut found, mut next) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let mut sent = client.describe_workspaces().set_next_token(next);
        sent = match id {
            Some(id) => sent.workspace_ids(id),
            None => sent.limit(25),
        };
        let page = match sent.send().await {
            Err(error) if code(&error) == Some("ResourceNotFoundException") => return Ok(Vec::new()),
            page => page.map_err(|error| problem(call, &error))?,
        };
        found.extend(page.workspaces().iter().cloned());
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(PortError::permanent(format!("{call}: more than {} desktops: name it by its id", MAX_PAGES * 25)))
}

/// The desktop that an order means, or why it cannot be acted on.
async fn meant(client: &Client, order: &Order) -> Result<Result<Workspace, Look>, PortError> {
    let hints = desktop::hints(order).map_err(PortError::permanent)?;
    let id = hints.iter().find_map(|hint| match hint {
        Hint::Id(id) => Some(id.as_str()),
        _ => None,
    });
    let all = desktops(client, id).await?;
    let known: Vec<Desktop> = all.iter().map(read).collect();
    match desktop::which(&hints, &known) {
        Which::One(one) => {
            let found = all.iter().find(|workspace| workspace.workspace_id() == Some(one.id.as_str())).cloned();
            found.map(Ok).ok_or_else(|| PortError::transient(format!("{} is not to be seen", one.id)))
        }
        Which::None => {
            let what = order.target.name_of(desktop::KIND).unwrap_or_default();
            Ok(Err(Look::NoEffect(format!("no desktop of this account and region is {what}"))))
        }
        Which::Several(reason) => Ok(Err(Look::Refused(reason))),
    }
}

/// One desktop by its id.
async fn one(client: &Client, id: &str) -> Result<Option<Workspace>, PortError> {
    let found = desktops(client, Some(id)).await?.into_iter().find(|one| one.workspace_id() == Some(id));
    Ok(found.filter(|one| read(one).alive))
}

impl Isolate {
    fn isolation<'a>(&self, order: &'a Order, what: &'a str) -> Result<Isolation<'a>, PortError> {
        let wanted = groups::wanted(order).map_err(PortError::permanent)?;
        Ok(Isolation { client: aws_sdk_ec2::Client::new(&self.0.of(order)), action: &order.id, wanted, what })
    }
}

/// The interfaces of the former state that are still there.
async fn held(isolation: &Isolation<'_>, former: &desktop_isolate::Former) -> Result<Vec<Interface>, PortError> {
    let ids = filter("network-interface-id", former.groups.interfaces.keys().cloned());
    ec2::interfaces(&isolation.client, vec![ids]).await
}

impl Effect for Isolate {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let workspace = match meant(&Client::new(&self.0.of(order)), order).await? {
                Ok(workspace) => workspace,
                Err(look) => return Ok(look),
            };
            let id = workspace.workspace_id().unwrap_or_default();
            let isolation = self.isolation(order, id)?;
            let (Some(address), Some(subnet)) = (workspace.ip_address(), workspace.subnet_id()) else {
                return Ok(Look::NoEffect(format!("{id} has no address now")));
            };
            let by = vec![filter("addresses.private-ip-address", [address]), filter("subnet-id", [subnet])];
            let found = ec2::interfaces(&isolation.client, by).await?;
            let [interface] = found.as_slice() else {
                let reason = format!(
                    "{} network interfaces of {subnet} have the address {address} of {id}, not one",
                    found.len()
                );
                return Ok(if found.is_empty() { Look::NoEffect(reason) } else { Look::Refused(reason) });
            };
            match isolation.look(&interface.id, &found).await? {
                Ok((groups, mut would)) => {
                    would.insert(0, format!("isolate {}", read(&workspace)));
                    let former = desktop_isolate::Former { desktop: id.to_owned(), groups };
                    Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
                }
                Err(obstacle) => Ok(obstacle.into()),
            }
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let former: desktop_isolate::Former =
                former::read(desktop_isolate::ID, former).map_err(PortError::permanent)?;
            let isolation = self.isolation(order, &former.desktop)?;
            isolation.apply(&former.groups, &held(&isolation, &former).await?).await
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let former: desktop_isolate::Former =
                former::read(desktop_isolate::ID, former).map_err(PortError::permanent)?;
            let isolation = self.isolation(order, &former.desktop)?;
            isolation.verify(&held(&isolation, &former).await?).await
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let former: desktop_isolate::Former =
                former::read(desktop_isolate::ID, former).map_err(PortError::permanent)?;
            let isolation = self.isolation(order, &former.desktop)?;
            let now = held(&isolation, &former).await?;
            let tags = now.into_iter().find(|one| one.id == former.groups.holder).map(|one| one.tags);
            isolation.undo(&former.groups, &tags.unwrap_or_default()).await
        })
    }
}

fn state(workspace: &Workspace) -> WorkspaceState {
    workspace.state().cloned().unwrap_or(WorkspaceState::Pending)
}

fn waits(id: &str, state: &WorkspaceState) -> Progress {
    Progress::Pending { what: format!("{id} is {state}"), again: AGAIN }
}

/// A refusal of one desktop inside an answer that is none.
fn refused<'a>(call: &str, failed: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Result<(), PortError> {
    match failed.into_iter().next() {
        None => Ok(()),
        Some((code, message)) => {
            let reason = format!("{call}: {} {}", code.unwrap_or_default(), message.unwrap_or_default());
            // It may be on its way from one state to another.
            let passing =
                code.is_some_and(|code| code.contains("InvalidState") || code.contains("OperationInProgress"));
            Err(if passing { PortError::transient(reason) } else { PortError::permanent(reason) })
        }
    }
}

impl Stop {
    async fn stop(client: &Client, id: &str) -> Result<(), PortError> {
        let call = "workspaces:StopWorkspaces";
        let sent = client.stop_workspaces().stop_workspace_requests(StopRequest::builder().workspace_id(id).build());
        let answer = sent.send().await.map_err(|error| problem(call, &error))?;
        refused(call, answer.failed_requests().iter().map(|one| (one.error_code(), one.error_message())))
    }

    async fn start(client: &Client, id: &str) -> Result<(), PortError> {
        let call = "workspaces:StartWorkspaces";
        let sent = client.start_workspaces().start_workspace_requests(StartRequest::builder().workspace_id(id).build());
        let answer = sent.send().await.map_err(|error| problem(call, &error))?;
        refused(call, answer.failed_requests().iter().map(|one| (one.error_code(), one.error_message())))
    }
}

impl Effect for Stop {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let workspace = match meant(&Client::new(&self.0.of(order)), order).await? {
                Ok(workspace) => workspace,
                Err(look) => return Ok(look),
            };
            let id = workspace.workspace_id().unwrap_or_default();
            let mode = workspace.workspace_properties().and_then(|properties| properties.running_mode());
            match state(&workspace) {
                state @ (WorkspaceState::Stopped | WorkspaceState::Stopping) => {
                    Ok(Look::NoEffect(format!("{id} is {state} already")))
                }
                _ if mode == Some(&RunningMode::AlwaysOn) => {
                    let remedy = "set its running mode to AutoStop, or isolate it";
                    Ok(Look::Refused(format!("{id} is always on, so that it cannot be stopped: {remedy}")))
                }
                state @ (WorkspaceState::Available
                | WorkspaceState::Impaired
                | WorkspaceState::Unhealthy
                | WorkspaceState::Error) => {
                    let mut would = vec![format!("stop {}; what is in its memory is lost", read(&workspace))];
                    if mode == Some(&RunningMode::AutoStop) {
                        would.push("it starts again when its user signs in".to_owned());
                    }
                    let former = desktop_stop::Former { desktop: id.to_owned(), state: state.to_string() };
                    Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
                }
                state => Err(PortError::transient(format!("{id} is {state}"))),
            }
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let former: desktop_stop::Former = former::read(desktop_stop::ID, former).map_err(PortError::permanent)?;
            let (client, id) = (Client::new(&self.0.of(order)), &former.desktop);
            let Some(now) = one(&client, id).await? else {
                return Err(PortError::permanent(format!("{id} does not exist any more")));
            };
            match state(&now) {
                WorkspaceState::Stopped => Ok(Progress::Done { remark: None }),
                WorkspaceState::Available
                | WorkspaceState::Impaired
                | WorkspaceState::Unhealthy
                | WorkspaceState::Error => {
                    match Self::stop(&client, id).await {
                        Ok(()) => Ok(waits(id, &WorkspaceState::Stopping)),
                        // Refused, perhaps since it stops already by a call whose answer was lost.
                        Err(refusal) => match one(&client, id).await?.map(|now| state(&now)) {
                            Some(now @ (WorkspaceState::Stopping | WorkspaceState::Stopped)) => Ok(waits(id, &now)),
                            _ => Err(refusal),
                        },
                    }
                }
                state => Ok(waits(id, &state)),
            }
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let former: desktop_stop::Former = former::read(desktop_stop::ID, former).map_err(PortError::permanent)?;
            let now = one(&Client::new(&self.0.of(order)), &former.desktop).await?.map(|now| state(&now));
            let not = now.filter(|state| *state != WorkspaceState::Stopped);
            Ok(not.map(|state| format!("{} is {state}", former.desktop)))
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let former: desktop_stop::Former = former::read(desktop_stop::ID, former).map_err(PortError::permanent)?;
            let (client, id) = (Client::new(&self.0.of(order)), &former.desktop);
            let Some(now) = one(&client, id).await? else {
                return Ok(Progress::Done { remark: Some(format!("{id} does not exist any more")) });
            };
            match state(&now) {
                WorkspaceState::Stopped => {
                    Self::start(&client, id).await?;
                    Ok(waits(id, &WorkspaceState::Starting))
                }
                state @ (WorkspaceState::Stopping | WorkspaceState::Starting | WorkspaceState::Pending) => {
                    Ok(waits(id, &state))
                }
                _ => Ok(Progress::Done { remark: None }),
            }
        })
    }
}
