//! The `uplink` worker: the one process of the agent that has a network socket, and the one that has the
//! agent's key (D16). It runs under its own uid, gets a descriptor of the identity folder, and gives up the rest before
//! the first byte from the network: it can run nothing, write nowhere but in that folder, and connect by TCP to the
//! manager, its proxy and name servers only (`sys::sandbox`).
//!
//! It keeps one stream to the manager open: batches, states and replies go up; policy, bundles, orders and
//! receipts go down. It decides nothing: what comes down is handed to the supervisor, which verifies it.
//! After a broken connection it tries again with growing waits; the supervisor then sends again what the
//! manager did not confirm.

pub mod enrol;
pub mod identity;
mod session;
pub mod tls;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_sys::channel::Channel;
use sakimori_sys::sandbox::{self, Outside, Sandbox};
use sakimori_wire::ipc::{FromUplink, ToUplink, UplinkStart};
use tokio::sync::mpsc::{Receiver, UnboundedSender, unbounded_channel};

use identity::Identity;
use session::{Ending, Session};

/// Messages that wait for the supervisor; the largest is a bundle of 16 MiB, and the budget of this worker 256.
const MAX_TOLD: usize = 4;
/// First wait after a broken connection.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait after a broken connection.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Wait after a refusal (revoked, unknown): nothing but a person changes that.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

/// Runs until the supervisor says stop or is gone.
///
/// # Errors
/// Where it cannot begin.
pub fn run(channel: Channel) -> Result<()> {
    let first = channel.recv().context("cannot read from the supervisor")?.context("the supervisor is gone")?;
    let (bytes, mut descriptors) = first;
    let ToUplink::Start(start) = postcard::from_bytes(&bytes).context("the first message is not understood")? else {
        bail!("the first message is no start");
    };
    let folder: OwnedFd = descriptors.pop().context("no descriptor of the identity folder came")?;
    let ports = ports(&start);
    let outside = Outside { folder: folder.as_fd(), ports: &ports };
    let confined =
        sandbox::enter_networked(&Sandbox::UPLINK, outside).context("cannot give up what it must not have")?;
    tracing::debug!(landlock = ?confined.landlock, "the uplink worker is confined");
    let identity = Identity::new(folder);
    let (to_session, from_supervisor) = unbounded_channel();
    let (to_supervisor, from_session) = tokio::sync::mpsc::channel(MAX_TOLD);
    // What the first hello says follows at once; the session must not begin without it.
    if let Some((bytes, _)) = channel.recv().context("cannot read from the supervisor")? {
        let _ = to_session.send(postcard::from_bytes(&bytes).context("the second message is not understood")?);
    }
    let reading = channel.try_clone().context("cannot copy the channel")?;
    std::thread::Builder::new().name("from-supervisor".into()).spawn(move || read(&reading, &to_session))?;
    let writing = std::thread::Builder::new()
        .name("to-supervisor".into())
        .spawn(move || write(&channel, from_session))
        .context("cannot start a thread")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let session = Session::new(*start, identity, from_supervisor, to_supervisor);
    let outcome = runtime.block_on(keep_connected(session));
    drop(runtime);
    let _ = writing.join();
    outcome
}

/// The TCP ports that it needs: the proxy's, where there is one, since the manager is then behind it; else the manager's.
fn ports(start: &UplinkStart) -> Vec<u16> {
    match &start.proxy {
        Some(proxy) => {
            let parsed: Option<tonic::codegen::http::Uri> = proxy.parse().ok();
            vec![parsed.and_then(|uri| uri.port_u16()).unwrap_or(80)]
        }
        None => sakimori_wire::token::split_address(&start.address).map(|(_, port)| port).into_iter().collect(),
    }
}

async fn keep_connected(mut session: Session) -> Result<()> {
    let mut wait = FIRST_WAIT;
    loop {
        match session.once().await {
            Ending::Stop => return Ok(()),
            Ending::Broken { reason, lasted } => {
                if lasted > Duration::from_secs(10) {
                    wait = FIRST_WAIT;
                }
                tracing::info!(reason, "the stream to the manager is down");
                session.tell(FromUplink::Disconnected { reason }).await;
            }
            Ending::Refused { reason } => {
                tracing::warn!(reason, "the manager refuses this agent");
                session.tell(FromUplink::Disconnected { reason }).await;
                wait = REFUSED_WAIT;
            }
        }
        if session.rest(with_jitter(wait)).await {
            return Ok(());
        }
        wait = wait.saturating_mul(2).min(if wait >= REFUSED_WAIT { REFUSED_WAIT } else { LONGEST_WAIT });
    }
}

/// Half to the whole of a wait, so that many agents do not come back in one moment.
fn with_jitter(wait: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let chance = RandomState::new().hash_one(0_u8) % 1_000;
    wait / 2 + wait.saturating_mul(u32::try_from(chance).unwrap_or(0)) / 2_000
}

fn read(channel: &Channel, out: &UnboundedSender<ToUplink>) {
    // The supervisor bounds what is on its way; a message that is not understood ends the worker.
    while let Ok(Some((bytes, _))) = channel.recv() {
        let Ok(message) = postcard::from_bytes(&bytes) else { break };
        if out.send(message).is_err() {
            break;
        }
    }
}

fn write(channel: &Channel, mut messages: Receiver<FromUplink>) {
    while let Some(message) = messages.blocking_recv() {
        match postcard::to_stdvec(&message) {
            Ok(bytes) => {
                if let Err(error) = channel.send(&bytes, &[]) {
                    tracing::warn!(%error, "cannot hand a message to the supervisor");
                    if error.kind() != std::io::ErrorKind::InvalidInput {
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(%error, "cannot encode a message"),
        }
    }
}
