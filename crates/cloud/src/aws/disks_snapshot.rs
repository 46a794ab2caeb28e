//! `disks_snapshot`: snapshots of all disks of an instance, at one moment where the instance is still there.
//!
//! How it works: snapshots carry the action's id as a tag, and what has one is not snapshotted again, since EC2 knows no key
//! of ours for this call. All disks of an instance are one call, so that they show the same moment; a disk that this left
//! out, or whose instance went meanwhile, is a call of its own. The SDK repeats neither by itself, since an answer that was
//! lost would then make two sets.
//!
//! Where AWS differs from the simulator: a snapshot takes minutes to hours, for which this action waits. The listing is
//! eventually consistent: a crash in the second after the call may make a second set, which costs and harms nothing.
//! Instance store volumes cannot be snapshotted. One volume has at most 5 snapshots pending at a time.

use std::sync::Arc;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{InstanceSpecification, ResourceType, SnapshotState, TagSpecification};
use sakimori_model::Order;
use sakimori_respond::actions::disks_snapshot::{self, ACTION_TAG, Former, ID, INSTANCE_TAG, Snapshot, State};
use sakimori_respond::actions::{former, instance};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::clients::Clients;
use super::ec2::{self, MAX_PAGES, PAGE, filter, no_instance, too_long};
use super::problem::{code, problem};
use super::{Make, irreversible};

/// `disks_snapshot`.
pub(super) const DISKS_SNAPSHOT: (&str, Make) = (ID, |clients| Arc::new(Disks(Arc::clone(clients))));

/// Seconds after which to ask again how far they are.
const AGAIN: u64 = 15;

struct Disks(Arc<Clients>);

/// The snapshots that this action made.
async fn found(client: &Client, action: &str) -> Result<Vec<Snapshot>, PortError> {
    let call = "ec2:DescribeSnapshots";
    let (mut found, mut next) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let sent =
            client.describe_snapshots().owner_ids("self").filters(filter(&format!("tag:{ACTION_TAG}"), [action]));
        let page = sent.max_results(PAGE).set_next_token(next).send().await.map_err(|error| problem(call, &error))?;
        found.extend(page.snapshots().iter().filter_map(|one| {
            let state = match one.state() {
                Some(SnapshotState::Completed) => State::Completed,
                Some(SnapshotState::Error) => State::Failed,
                _ => State::Pending,
            };
            let (id, volume) = (one.snapshot_id()?.to_owned(), one.volume_id()?.to_owned());
            Some(Snapshot { id, volume, state, progress: one.progress().unwrap_or_default().to_owned() })
        }));
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(too_long(call))
}

fn tags(action: &str, instance: &str) -> TagSpecification {
    ec2::tagged(ResourceType::Snapshot, [(ACTION_TAG, action), (INSTANCE_TAG, instance)])
}

/// Makes the snapshots that are missing. Returns volumes that do not exist any more.
async fn make(
    client: &Client,
    once: &Client,
    action: &str,
    id: &str,
    former: &Former,
    known: &[Snapshot],
) -> Result<Vec<String>, PortError> {
    let about = format!("Sakimori: disk of {id}, for the action {action}");
    let mut missing: Vec<&str> = disks_snapshot::missing(former, known);
    let whole = missing.len() == former.volumes.len();
    if whole && ec2::instance(client, id).await?.is_some_and(|found| !found.is_over()) {
        let which = InstanceSpecification::builder().instance_id(id).build();
        let sent = once.create_snapshots().instance_specification(which).description(&about);
        match sent.tag_specifications(tags(action, id)).send().await {
            // It went in this moment: its disks may have stayed.
            Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") => {}
            sent => {
                let made = sent.map_err(|error| problem("ec2:CreateSnapshots", &error))?;
                missing.retain(|volume| !made.snapshots().iter().any(|one| one.volume_id() == Some(volume)));
            }
        }
    }
    let mut gone = Vec::new();
    for volume in missing {
        let sent = once.create_snapshot().volume_id(volume).description(&about);
        match sent.tag_specifications(tags(action, id)).send().await {
            Err(error) if code(&error) == Some("InvalidVolume.NotFound") => gone.push(volume.to_owned()),
            sent => {
                sent.map_err(|error| problem("ec2:CreateSnapshot", &error))?;
            }
        }
    }
    Ok(gone)
}

/// How far the snapshots are.
fn progress(former: &Former, known: &[Snapshot], gone: &[String]) -> Result<Progress, PortError> {
    let best = disks_snapshot::best(known);
    let list = |state: State| best.values().filter(move |one| one.state == state);
    if let Some(failed) = list(State::Failed).next() {
        let reason = format!("the snapshot {} of {} failed at AWS: begin the action again", failed.id, failed.volume);
        return Err(PortError::permanent(reason));
    }
    let unseen = former.volumes.len().saturating_sub(gone.len()).saturating_sub(best.len());
    let pending: Vec<String> = list(State::Pending).map(|one| format!("{} ({})", one.id, one.progress)).collect();
    if unseen > 0 || !pending.is_empty() {
        return Ok(Progress::Pending { what: format!("snapshots: {}", pending.join(", ")), again: AGAIN });
    }
    if best.is_empty() {
        return Err(PortError::permanent(format!("the disks do not exist any more: {}", gone.join(", "))));
    }
    let mut made: Vec<String> = best.values().map(|one| format!("{} of {}", one.id, one.volume)).collect();
    made.extend(gone.iter().map(|volume| format!("{volume} did not exist any more")));
    Ok(Progress::Done { remark: Some(made.join(", ")) })
}

impl Effect for Disks {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let Some(found) = ec2::instance(&Client::new(&self.0.of(order)), id).await? else {
                return Ok(Look::NoEffect(no_instance(id)));
            };
            if found.volumes.is_empty() {
                return Ok(Look::NoEffect(format!("{id} has no disk of which a snapshot could be made")));
            }
            let former = Former { volumes: found.volumes.into_keys().collect() };
            let volumes: Vec<&str> = former.volumes.iter().map(String::as_str).collect();
            let would = vec![format!("make snapshots of {} and tag them with {ACTION_TAG}", volumes.join(", "))];
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let id = instance::id(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let client = Client::new(&self.0.of(order));
            let known = found(&client, &order.id).await?;
            if disks_snapshot::missing(&former, &known).is_empty() {
                return progress(&former, &known, &[]);
            }
            let gone = make(&client, &Client::new(&self.0.once(order)), &order.id, id, &former, &known).await?;
            progress(&former, &found(&client, &order.id).await?, &gone)
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let known = found(&Client::new(&self.0.of(order)), &order.id).await?;
            let best = disks_snapshot::best(&known);
            // A disk that went before is in the remark; what is here has to be complete.
            let unready = best.values().find(|one| one.state != State::Completed);
            Ok(match unready {
                Some(one) => Some(format!("the snapshot {} of {} is not complete", one.id, one.volume)),
                None if best.is_empty() && !former.volumes.is_empty() => Some("no snapshot is to be seen".to_owned()),
                None => None,
            })
        })
    }

    fn undo<'a>(&'a self, _order: &'a Order, _former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move { Err(irreversible(ID)) })
    }
}
