//! Commit, confirmed: what could lock people out stays only where host, services and manager still answer after it.
//!
//! While a provisional action is in the ledger, a thread tries the services that accepted connections before it. Where
//! all still do, the manager is asked; its sealed answer shows that the way to it and back is open, and the action
//! stays. A person may confirm as well, at the host or at the manager. Nobody does: the ledger's deadline, and for blocks
//! the kernel's own timeout, take it back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sakimori_respond::seal::Act;
use sakimori_sys::net;
use sakimori_wire::ipc::ToUplink;

use super::{Message, Supervisor};

/// Most services that are tried.
const MOST: usize = 32;
/// How long a service may take to accept, and ssh to greet.
const TRY: Duration = Duration::from_secs(2);
/// Between two rounds.
const EVERY: Duration = Duration::from_secs(5);
/// Between two looks at what accepts, while nothing waits. For each the kernel walks through all its connections.
const AT_REST: Duration = Duration::from_secs(15);
/// Ports from here on are programs' own, which come and go.
const EPHEMERAL: u16 = 32_768;
const SSH: u16 = 22;

/// What is known of the services, and which actions they passed.
#[derive(Default)]
pub struct Checks {
    /// Services that accepted before.
    services: BTreeSet<SocketAddr>,
    running: bool,
    /// When the last round or look began.
    last: Option<Instant>,
    /// By action: what held after it.
    passed: BTreeMap<String, Vec<String>>,
    /// Actions whose failed checks were told.
    told: BTreeSet<String>,
}

/// What one round found: the checks that held, or the first that did not.
pub type Round = Result<Vec<String>, String>;

impl Supervisor {
    /// Looks at what waits for its confirmation, every second.
    pub(super) fn look_at_provisional(&mut self) -> Result<()> {
        let waiting = self.actions.provisional();
        self.checks.passed.retain(|id, _| waiting.contains(id));
        self.checks.told.retain(|id| waiting.contains(id));
        let every = if waiting.is_empty() { AT_REST } else { EVERY };
        if self.checks.running || self.checks.last.is_some_and(|last| last.elapsed() < every) {
            return Ok(());
        }
        self.checks.last = Some(Instant::now());
        if waiting.is_empty() {
            // Without an answer of the kernel there is nothing to compare with, and nothing is confirmed by itself.
            self.checks.services = services().unwrap_or_default();
            return Ok(());
        }
        self.checks.running = true;
        let (services, to) = (self.checks.services.clone(), self.to.clone());
        let round = move || {
            let _ = to.send(Message::Checked(waiting, try_all(&services)));
        };
        std::thread::Builder::new().name("checks".into()).spawn(round).context("cannot start a thread")?;
        Ok(())
    }

    /// A round is over.
    pub(super) fn checked(&mut self, ids: Vec<String>, round: Round) {
        self.checks.running = false;
        for id in ids {
            match &round {
                Ok(checks) => {
                    self.checks.passed.insert(id.clone(), checks.clone());
                    if let Some(link) = self.link.as_ref().filter(|link| link.is_connected()) {
                        link.send(&ToUplink::Provisional { id, checks: checks.clone() });
                    }
                }
                Err(reason) => {
                    self.checks.passed.remove(&id);
                    if self.checks.told.insert(id.clone()) {
                        self.say("checks-failed", format!("action {id} is not confirmed: {reason}"), |_| {});
                    }
                }
            }
        }
    }

    /// The manager, or a person there, confirms.
    pub(super) fn take_confirm(&mut self, id: &str, by: &str, seals: &[Vec<u8>]) -> Result<()> {
        if self.judged("confirm an action", seals, Act::Confirm { action: id, by }, true).is_err() {
            return Ok(());
        }
        let Some(checks) = self.checks.passed.get(id) else {
            tracing::info!(id, by, "a confirmation came before the checks held; it is not taken");
            return Ok(());
        };
        let checks = format!("the manager answers, {}", checks.join(", "));
        self.confirm(id, by, &checks).map(drop)
    }

    /// Confirms; false where there was nothing to confirm.
    pub(super) fn confirm(&mut self, id: &str, by: &str, checks: &str) -> Result<bool> {
        let (confirmed, told) = self.actions.confirm(id, by, checks, self.now())?;
        self.spool_actions(told)?;
        Ok(confirmed)
    }
}

fn services() -> Result<BTreeSet<SocketAddr>> {
    let all = net::listeners()?;
    Ok(all.into_iter().filter(|one| one.port() < EPHEMERAL).take(MOST).collect())
}

fn try_all(services: &BTreeSet<SocketAddr>) -> Round {
    let mut held = Vec::new();
    for service in services {
        held.push(try_one(*service)?);
    }
    Ok(if held.is_empty() { vec!["no service accepted connections before".into()] } else { held })
}

fn try_one(service: SocketAddr) -> Result<String, String> {
    let mut to = service;
    match service.ip() {
        IpAddr::V4(any) if any.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(any) if any.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let fail = |error: std::io::Error| format!("port {} accepted before and does not now: {error}", service.port());
    let mut stream = TcpStream::connect_timeout(&to, TRY).map_err(fail)?;
    if service.port() == SSH {
        // Accepting is the kernel's doing; a greeting is the service's.
        let mut greeting = [0; 4];
        stream.set_read_timeout(Some(TRY)).and_then(|()| stream.read_exact(&mut greeting)).map_err(fail)?;
        if &greeting != b"SSH-" {
            return Err("ssh accepts and does not greet".into());
        }
        return Ok("ssh greets".into());
    }
    Ok(format!("port {} accepts", service.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_service_that_is_gone_is_named() {
        let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let both = BTreeSet::from([one.local_addr().unwrap(), two.local_addr().unwrap()]);
        assert_eq!(try_all(&both).unwrap().len(), 2);
        let port = two.local_addr().unwrap().port();
        drop(two);
        let reason = try_all(&both).unwrap_err();
        assert!(reason.starts_with(&format!("port {port} accepted before")), "{reason}");
        assert_eq!(try_all(&BTreeSet::new()).unwrap().len(), 1, "nothing to try is said");
    }
}
