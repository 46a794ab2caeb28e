//! Syslog as it is sent: datagrams (UDP), counted messages or lines over TCP, the same in TLS.
//!
//! A live source: by UDP nobody can be asked to wait. What there is no room for is lost and counted with its cause, so that
//! what was sent is what is stored and what is counted:
//!
//! | cause | where |
//! |---|---|
//! | `pace` | its sender is over `lines_per_second` (a bucket a sender; by TCP the sender waits instead) |
//! | `queue_full` | what waits for the worker is bounded (by TCP the sender waits) |
//! | `kernel_buffer` | the socket's buffer was full: the kernel's own count |
//! | `sender` | the address may not send (it is no sender of ours, but it is counted) |
//! | `stopped` | it waited when the manager was stopped, and there was no time to journal it |
//!
//! Whose events these are says the configuration, which names who may send; what a line says of its host is one field beside
//! the address that it came from (`observer.ip`). All that is taken apart in this process is where a message ends. A message is one line: a line feed in it cannot begin another.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sakimori_detect::syslog_frames::{Frames, MAX_MESSAGE, one_line};
use sakimori_model::Timestamp;
use sakimori_store::control::flushes;
use sakimori_wire::batch::Loss;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::IngestError;
use super::occurrences::{ORIGIN, STREAM};
use super::settings::{Syslog, Transport};
use super::ways::Way;
use super::worker::Message;
use crate::shared::Shared;

/// Lines that wait for the worker.
const QUEUE: usize = 1_024;
/// Lines of one batch.
const TOGETHER: usize = 1_000;
/// How long a batch is gathered.
const LINGER: Duration = Duration::from_millis(200);
/// Connections of a listener at a time.
const CONNECTIONS: usize = 512;
/// Senders of a listener whose pace is kept; those beyond share one.
const SENDERS: usize = 4_096;
/// A handshake may take so long, and a connection may be silent for so long.
const HANDSHAKE: Duration = Duration::from_secs(10);
const SILENT: Duration = Duration::from_secs(600);
/// How long a sender by TCP waits for its pace.
const HOLD: Duration = Duration::from_millis(50);
/// Pause before what could not be taken is tried again.
const PAUSE: Duration = Duration::from_millis(500);

const CAUSES: [&str; 4] = ["pace", "queue_full", "kernel_buffer", "sender"];
const PACE: usize = 0;
const FULL: usize = 1;
const KERNEL: usize = 2;
const SENDER: usize = 3;

/// What a listener shares with its connections.
struct Listener {
    settings: Syslog,
    lines: mpsc::Sender<Message>,
    lost: [AtomicU64; CAUSES.len()],
    paces: Mutex<Paces>,
    shared: Arc<Shared>,
}

/// Listens until the stop is told.
///
/// # Errors
/// An address that cannot be listened on, or certificates that cannot be used.
pub async fn run(shared: Arc<Shared>, way: Way, settings: Syslog) -> Result<(), String> {
    let (lines, waiting) = mpsc::channel(QUEUE);
    let listener = Arc::new(Listener {
        lines,
        lost: Default::default(),
        paces: Mutex::new(Paces::new(settings.lines_per_second)),
        settings: settings.clone(),
        shared: Arc::clone(&shared),
    });
    let gathered = gather(&listener, &way, waiting);
    let what = |error: &dyn std::fmt::Display| format!("ingest.syslog {}: {error}", settings.name);
    let listening = async {
        match settings.transport {
            Transport::Udp => datagrams(&listener).await.map_err(|error| what(&error)),
            Transport::Tcp => connections(&listener, None).await.map_err(|error| what(&error)),
            Transport::Tls => {
                let tls = shared.authority.syslog_tls(&settings).map_err(|error| what(&format!("{error:#}")))?;
                connections(&listener, Some(TlsAcceptor::from(tls))).await.map_err(|error| what(&error))
            }
        }
    };
    tokio::select! {
        outcome = listening => outcome,
        // It ends with the stop, once what it had in hand is taken or counted.
        () = gathered => Ok(()),
    }
}

impl Listener {
    fn lose(&self, cause: usize, count: u64) {
        if let Some(counter) = self.lost.get(cause) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Is there room in this sender's pace?
    fn in_pace(&self, sender: IpAddr) -> bool {
        let now = self.shared.clock.now();
        self.paces.lock().is_ok_and(|mut paces| paces.take(sender, now))
    }

    fn bound(&self, address: SocketAddr) {
        info!(way = self.settings.name, %address, transport = ?self.settings.transport, "listening for syslog");
        if let Ok(mut bound) = self.shared.syslog_addresses.lock() {
            bound.insert(self.settings.name.clone(), address);
        }
    }
}

/// Datagrams: nobody waits, and what has no room is counted.
async fn datagrams(listener: &Arc<Listener>) -> io::Result<()> {
    let socket = UdpSocket::bind(listener.settings.listen).await?;
    // As large as the kernel allows: bursts are what syslog is.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
    listener.bound(socket.local_addr()?);
    let inode = rustix::fs::fstat(&socket).map(|stat| stat.st_ino)?;
    let mut dropped = 0;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        tokio::select! {
            biased;
            received = socket.recv_from(&mut buffer) => {
                // An error of one datagram (a port that nobody listens on) is none of the socket.
                let Ok((size, from)) = received else { continue };
                let sender = from.ip().to_canonical();
                if !listener.settings.admits(sender) {
                    listener.lose(SENDER, 1);
                } else if !listener.in_pace(sender) {
                    listener.lose(PACE, 1);
                } else {
                    let body = one_line(buffer.get(..size).unwrap_or_default());
                    let message = Message { id: String::new(), body, sender: Some(sender) };
                    if listener.lines.try_send(message).is_err() {
                        listener.lose(FULL, 1);
                    }
                }
            }
            _ = tick.tick() => {
                if let Some(now) = kernel_drops(inode) {
                    listener.lose(KERNEL, now.saturating_sub(dropped));
                    dropped = now;
                }
            }
        }
    }
}

/// How many datagrams the kernel threw away for want of room in the buffer of the socket with this inode.
fn kernel_drops(inode: u64) -> Option<u64> {
    let of = |path: &str| {
        let table = std::fs::read_to_string(path).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let own = fields.get(9)?.parse::<u64>().ok()? == inode;
            own.then(|| fields.last()?.parse().ok()).flatten()
        })
    };
    of("/proc/self/net/udp").or_else(|| of("/proc/self/net/udp6"))
}

async fn connections(listener: &Arc<Listener>, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let socket = TcpListener::bind(listener.settings.listen).await?;
    listener.bound(socket.local_addr()?);
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (stream, from) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(problem) => {
                warn!(error = %problem, "a connection of syslog could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let sender = from.ip().to_canonical();
        if !listener.settings.admits(sender) {
            continue;
        }
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
        let (listener, tls) = (Arc::clone(listener), tls.clone());
        open.spawn(async move {
            let _seat = seat;
            match tls {
                None => stream_of(&listener, sender, stream).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => stream_of(&listener, sender, stream).await,
                    _ => info!(way = listener.settings.name, %sender, "a handshake of syslog failed"),
                },
            }
        });
    }
}

/// A connection: who sends too fast waits, by not being read.
async fn stream_of(listener: &Listener, sender: IpAddr, mut stream: impl AsyncRead + Unpin) {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; 16 << 10]);
    loop {
        let read = tokio::time::timeout(SILENT, stream.read(&mut buffer)).await;
        let mut lines = Vec::new();
        let ended = match read {
            Ok(Ok(size)) if size > 0 => {
                frames.feed(buffer.get(..size).unwrap_or_default(), |line| lines.push(one_line(line)));
                false
            }
            _ => {
                frames.finish(|line| lines.push(one_line(line)));
                true
            }
        };
        for body in lines {
            while !listener.in_pace(sender) {
                tokio::time::sleep(HOLD).await;
            }
            let message = Message { id: String::new(), body, sender: Some(sender) };
            if listener.lines.send(message).await.is_err() {
                return;
            }
        }
        if ended {
            return;
        }
    }
}

/// Lines on their way to the journal, in batches.
async fn gather(listener: &Listener, way: &Way, mut waiting: mpsc::Receiver<Message>) {
    let shared = &listener.shared;
    let mut since = shared.clock.now();
    let mut left = (0, Vec::new());
    'lines: loop {
        let mut lines = Vec::new();
        let first = tokio::select! {
            first = tokio::time::timeout(Duration::from_secs(1), waiting.recv()) => first,
            () = shared.stop.wait() => break,
        };
        match first {
            Ok(None) => return,
            Ok(Some(line)) => {
                lines.push(line);
                let gathered = async {
                    while lines.len() < TOGETHER
                        && let Some(line) = waiting.recv().await
                    {
                        lines.push(line);
                    }
                };
                let _ = tokio::time::timeout(LINGER, gathered).await;
            }
            Err(_) => {}
        }
        let now = shared.clock.now();
        let losses = losses(listener, since, now);
        if lines.is_empty() && losses.is_empty() {
            continue;
        }
        since = now;
        // The journal may have no room for a while; what comes meanwhile waits in the queue, or is counted.
        let mut losses = losses;
        while let Err(problem) = way.take_live(shared, lines.clone(), losses.clone()).await {
            if matches!(problem, IngestError::Refused(_)) && !lines.is_empty() {
                // They would be refused again and again, and all that comes after them would wait.
                warn!(way = way.name, error = %problem, lines = lines.len(), "lines of syslog cannot be taken");
                losses.push(loss(listener, "refused", lines.len() as u64, (since, now)));
                lines.clear();
                continue;
            }
            warn!(way = way.name, error = %problem, "lines of syslog could not be taken; they are tried again");
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shared.stop.wait() => {
                    left = (lines.len() as u64, losses);
                    break 'lines;
                }
            }
        }
    }
    let (in_hand, mut untold) = left;
    let now = shared.clock.now();
    untold.extend(losses(listener, since, now));
    let waited = in_hand + waiting.len() as u64;
    if waited > 0 {
        untold.push(loss(listener, "stopped", waited, (since, now)));
    }
    if let Err(problem) = count_at_the_end(shared, way, &untold, now).await {
        warn!(way = way.name, error = %problem, lost = waited, "what a stop cost could not be counted");
    }
}

/// What there was no time to journal goes into the books by itself, under a number that no batch has.
async fn count_at_the_end(
    shared: &Shared,
    way: &Way,
    untold: &[Loss],
    now: Timestamp,
) -> Result<(), sakimori_store::control::ControlError> {
    if untold.is_empty() {
        return Ok(());
    }
    let origin = format!("{ORIGIN}{}", way.name);
    let mut change = shared.control.begin().await?;
    flushes::put_losses(change.connection(), &way.tenant, &origin, STREAM, -now.micros(), untold).await?;
    change.commit().await
}

/// What was lost since it was told last.
fn losses(listener: &Listener, from: Timestamp, to: Timestamp) -> Vec<Loss> {
    let counts = CAUSES.iter().zip(&listener.lost).map(|(cause, count)| (cause, count.swap(0, Ordering::Relaxed)));
    counts.filter(|(_, count)| *count > 0).map(|(cause, count)| loss(listener, cause, count, (from, to))).collect()
}

fn loss(listener: &Listener, cause: &str, count: u64, (from, to): (Timestamp, Timestamp)) -> Loss {
    Loss { count, cause: cause.to_owned(), place: format!("way/{}", listener.settings.name), from, to }
}

/// A bucket a sender, that fills with time.
struct Paces {
    most: f64,
    buckets: HashMap<IpAddr, (f64, Timestamp)>,
    /// Of all senders beyond those that have one.
    shared: (f64, Timestamp),
}

impl Paces {
    fn new(lines_per_second: u32) -> Self {
        let most = f64::from(lines_per_second);
        Self { most, buckets: HashMap::new(), shared: (most, Timestamp::from_micros(0)) }
    }

    fn take(&mut self, sender: IpAddr, now: Timestamp) -> bool {
        let most = self.most;
        if self.buckets.len() >= SENDERS && !self.buckets.contains_key(&sender) {
            // Full buckets are those of senders that were silent.
            self.buckets.retain(|_, (left, last)| filled(*left, *last, most, now) < most);
        }
        let bucket = match self.buckets.len() >= SENDERS && !self.buckets.contains_key(&sender) {
            true => &mut self.shared,
            false => self.buckets.entry(sender).or_insert((most, now)),
        };
        let left = filled(bucket.0, bucket.1, most, now);
        let room = left >= 1.0;
        *bucket = (if room { left - 1.0 } else { left }, now);
        room
    }
}

fn filled(left: f64, last: Timestamp, most: f64, now: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a bucket need not be exact")]
    let passed = now.since(last).max(0) as f64 / 1_000_000.0;
    (left + passed * most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_its_pace_and_many_senders_share_what_is_left() {
        let mut paces = Paces::new(10);
        let now = Timestamp::from_secs(100);
        let sender = |n: u32| IpAddr::from(n.to_be_bytes());
        let taken = |paces: &mut Paces, n, at| (0..100).filter(|_| paces.take(sender(n), at)).count();
        assert_eq!(taken(&mut paces, 1, now), 10);
        assert_eq!(taken(&mut paces, 1, now.plus_secs(1)), 10, "a second later it is full again");
        assert_eq!(taken(&mut paces, 2, now), 10, "another sender has its own");
        let most = u32::try_from(SENDERS).unwrap();
        for n in 0..most * 2 {
            taken(&mut paces, n + 10, now.plus_secs(1));
        }
        assert!(paces.buckets.len() <= SENDERS);
        assert_eq!(taken(&mut paces, most * 3, now.plus_secs(1)), 0, "those beyond share one bucket, which is empty");
        assert_eq!(taken(&mut paces, most * 3, now.plus_secs(9)), 10, "silent senders made room");
    }
}
