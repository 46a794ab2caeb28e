//! The probe of `intrusion_prevention`: two requests of our own over loopback, to a port that the kernel's rules send
//! through the queue like any other traffic.
//!
//! The first is harmless and has to be answered: what refuses everything protects nobody. The second asks for
//! [`PROBE_PATH`], which a rule that goes with every rule set is for. Proven is the module where the rule's alert
//! came and, while it prevents, no answer did. Neither leaves this host, and whoever else asks for that path on that
//! port of loopback changes nothing but an alert that says it is a probe's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_model::policy::Mode;

use crate::modules::intrusion_prevention::PROBE_PATH;
use crate::supervisor::{Message, Supervisor};

/// How long a connection and an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the second request's answer is waited for. That it was not just slow is said by its alert.
const IN_VAIN: Duration = Duration::from_millis(1_500);
/// Connections that are open at a time; the probe needs one.
const MOST_OPEN: usize = 8;

/// What the probe's two requests came to.
#[derive(Default)]
pub struct Seen {
    /// Was the second one answered?
    pub answered: Option<Result<bool, String>>,
    /// Its alert came; was it dropped?
    pub dropped: Option<bool>,
}

impl Seen {
    /// What is proven, as soon as that can be said. `looks`: the policy only looks.
    pub fn outcome(&self, looks: bool) -> Option<Result<String, String>> {
        match (&self.answered, self.dropped) {
            (Some(Err(reason)), _) => Some(Err(reason.clone())),
            (Some(Ok(true)), Some(false)) if looks => {
                Some(Ok("a request for the probe's path was seen; it only looks".into()))
            }
            (Some(Ok(true)), _) if !looks => Some(Err("a request that a rule is to stop was answered".into())),
            (Some(Ok(false)), Some(true)) if !looks => {
                Some(Ok("a request for the probe's path was dropped, and a harmless one answered".into()))
            }
            (Some(Ok(false)), Some(_)) => Some(Err("it only looks, and the probe's request was not answered".into())),
            _ => None,
        }
    }
}

impl Supervisor {
    /// Sends requests over loopback. They may wait for a verdict, so in a thread.
    pub(super) fn try_network(&self) {
        let open = self.proof.running.as_ref().is_some_and(|running| running.open.contains("intrusion_prevention"));
        let Some(port) = self.config.proof.probed_port().filter(|_| open) else { return };
        let to = self.to.clone();
        let started = std::thread::Builder::new().name("proof".into()).spawn(move || {
            let answered = ask(port).map_err(|error| format!("{error:#}"));
            let _ = to.send(Message::Asked(answered));
        });
        if let Err(error) = started {
            tracing::error!(%error, "cannot start a thread for a probe");
        }
    }

    pub(super) fn network_proven(&self) -> Option<Result<String, String>> {
        let looks = self.policy.policy.modules.intrusion_prevention.mode == Mode::Detect;
        self.proof.running.as_ref()?.network.outcome(looks)
    }
}

/// Sends both requests; was the second one answered? Blocks for a few seconds.
///
/// # Errors
/// The port is taken, or the harmless request was not answered.
pub fn ask(port: u16) -> Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address)
        .with_context(|| format!("port {port} of loopback is taken; name another as proof.port"))?;
    listener.set_nonblocking(true)?;
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let answering = std::thread::Builder::new().name("proof".into()).spawn(move || answer(&listener, &told))?;
    let harmless = request(address, "/", PATIENCE).context("a harmless request over loopback");
    let marked = request(address, PROBE_PATH, IN_VAIN).context("the probe's request over loopback");
    over.store(true, Ordering::SeqCst);
    if answering.join().is_err() {
        bail!("the probe's own server failed");
    }
    if !harmless? {
        bail!("a harmless request over loopback was not answered");
    }
    marked
}

/// One request on a connection of its own: was it answered?
fn request(address: SocketAddr, path: &str, patience: Duration) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(patience))?;
    let sent = format!("GET {path} HTTP/1.1\r\nHost: sakimori.invalid\r\nConnection: close\r\n\r\n");
    stream.write_all(sent.as_bytes())?;
    match stream.read(&mut [0; 64]) {
        Ok(read) => Ok(read > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Answers until the probe is over. What it reads it does not look at.
fn answer(listener: &TcpListener, over: &AtomicBool) {
    let mut open = Vec::new();
    while !over.load(Ordering::SeqCst) {
        if open.len() < MOST_OPEN
            && let Ok((stream, _)) = listener.accept()
            && stream.set_nonblocking(true).is_ok()
        {
            open.push(stream);
        }
        open.retain_mut(|stream: &mut TcpStream| match stream.read(&mut [0; 512]) {
            Ok(1..) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                false
            }
            Ok(0) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(2));
    }
}
