//! Pumps as the supervisor and the `pump` command see them: one process a queue, which listens in the state folder under
//! its queue's number and bits, and outlives this one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sakimori_host::keeper::message::Silence;
use sakimori_host::keeper::pump::{Settings, run};
use sakimori_host::keeper::pump_message::{FromPump, ToPump};
use sakimori_sys::cgroup::Group;
use sakimori_sys::channel::Channel;
use sakimori_sys::nft::queue::Marks;

use super::outliving::Outliving;
use crate::config::Config;

/// How long a pump may take to listen.
const START: Duration = Duration::from_secs(5);

/// Where the pump of a queue listens.
fn socket(config: &Config, queue: u16, mark_bit: u8) -> PathBuf {
    config.agent.state.join(format!("pump-{queue}-{mark_bit}.sock"))
}

/// All sockets of pumps, also of ones that are no more.
fn sockets(config: &Config) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(&config.agent.state) else { return Vec::new() };
    let ours = |name: &str| name.starts_with("pump-") && name.ends_with(".sock");
    let named = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(ours));
    named.map(|entry| entry.path()).collect()
}

/// Was any pump started, and not ended by us?
pub fn any(config: &Config) -> bool {
    !sockets(config).is_empty()
}

/// Ends all pumps that listen, and waits until they are gone.
pub fn end_all(config: &Config) {
    for path in sockets(config) {
        if let Ok(stream) = UnixStream::connect(&path) {
            let channel = Channel::new(OwnedFd::from(stream));
            if channel.send(&ToPump::End.encode(), &[]).is_ok() {
                // It closes its end when it is done.
                let _ = channel.recv_timeout(START);
            }
        }
        let _ = std::fs::remove_file(&path);
    }
}

/// Connects to the pump of a queue, starting one where none listens.
///
/// # Errors
/// It does not start: another program reads the queue, perhaps.
pub fn connect(config: &Config, queue: u16, mark_bit: u8, group: Option<&Group>) -> Result<Channel> {
    let path = socket(config, queue, mark_bit);
    let open = || UnixStream::connect(&path).map(|stream| Channel::new(OwnedFd::from(stream)));
    if let Ok(channel) = open() {
        return Ok(channel);
    }
    let _ = std::fs::remove_file(&path);
    let bits = [queue.to_string(), mark_bit.to_string()];
    let arguments = [path.as_os_str()].into_iter().chain(bits.iter().map(OsStr::new));
    let mut pump = Outliving::start("pump", arguments, group)?;
    let until = Instant::now() + START;
    loop {
        match open() {
            Ok(channel) => return pump.leave().map(|()| channel),
            Err(error) => {
                if let Some(status) = pump.ended() {
                    anyhow::bail!("the pump of queue {queue} ended ({status}); does another program read this queue?");
                }
                if Instant::now() > until {
                    return Err(error).with_context(|| format!("the pump of queue {queue} does not listen"));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Reads what a pump tells, in a thread. `take` gets each message, and `None` at the end.
///
/// # Errors
/// No thread can be started.
pub fn listen(
    pump: &Channel,
    take: impl Fn(Option<(FromPump, Vec<OwnedFd>)>) -> bool + Send + 'static,
) -> io::Result<()> {
    let channel = pump.try_clone()?;
    std::thread::Builder::new().name("from-pump".into()).spawn(move || {
        while let Ok(Some((bytes, files))) = channel.recv() {
            let Some(message) = FromPump::decode(&bytes) else { break };
            if !take(Some((message, files))) {
                return;
            }
        }
        channel.close();
        take(None);
    })?;
    Ok(())
}

/// The pump process: holds the queue until it is told to end. Fails open until the agent has said what applies.
///
/// # Errors
/// It cannot listen, or the queue cannot be bound.
pub fn hold(socket: &Path, queue: u16, mark_bit: u8) -> Result<()> {
    let marks = Marks::at(mark_bit).context("the mark's bits lie beyond its end")?;
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let settings = Settings { queue, marks, silence: Silence::OPEN };
    let held = run(&listener, settings).with_context(|| format!("the pump of queue {queue} cannot go on"));
    let _ = std::fs::remove_file(socket);
    held
}
