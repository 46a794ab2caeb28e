//! `halt`, `resume` and `actions verify`: what works at the host whatever the manager and the agent's own process do.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_host::block_address::Blocker;
use sakimori_host::isolate_host::Isolation;
use sakimori_host::opens::{Opens, Silence};
use sakimori_host::queue_packets;
use sakimori_respond::ledger::{Keep, Ledger};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_wire::ipc::{Answer, Ask};

use crate::config::Config;
use crate::halt::{self, Halted};
use crate::{control, supervisor};

/// How long the agent may take to act on the mark before this command acts by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Puts the mark; with `undo` what is blocked is let in again, by the agent where it answers, else by taking the table
/// away.
///
/// # Errors
/// The mark cannot be put, or the table not be taken away.
pub fn halt(config: &Config, undo: bool, reason: String, by: &str, json: bool) -> Result<()> {
    root()?;
    let mark = Halted { at: SystemClock.now(), by: by.to_owned(), reason, undo, manager: false };
    std::fs::create_dir_all(&config.agent.state)
        .with_context(|| format!("cannot make {}", config.agent.state.display()))?;
    halt::put(&config.agent.state, mark)?;
    let answered = control::ask_within(&config.control_socket(), &Ask::Halted, PATIENCE);
    let agent = answered.is_ok();
    if !agent {
        // A keeper that waits for an agent that hangs lets everything through from now on.
        if let Ok(opens) = Opens::connect(&config.keeper_socket()) {
            let _ = opens.silence(Silence::OPEN);
        }
        // Nor are packets dropped any more: the workers of an agent that hangs judge on, and so do its pumps.
        if let Err(error) = queue_packets::remove(&config.intrusion_prevention.table) {
            anstream::eprintln!("the rules that queue packets could not be taken away: {error}");
        }
        if undo {
            Blocker::remove(&config.block_address.table).context("cannot remove the nftables table")?;
            Isolation::remove(&config.isolation_table()).context("cannot remove the table that isolates this host")?;
        }
    }
    if json {
        anstream::println!("{}", serde_json::json!({ "halted": true, "undo": undo, "agent": agent }));
        return Ok(());
    }
    anstream::println!("all automatic answers on this host are stopped");
    match (undo, agent) {
        (true, true) => anstream::println!("the agent takes back every block and isolation"),
        (true, false) => anstream::println!(
            "the agent does not answer; the nftables table {} is removed, and the agent notes it when it is back",
            config.block_address.table
        ),
        (false, _) => anstream::println!("blocks in effect stay until their time is up; --undo takes them back"),
    }
    anstream::println!("next: sakimori-agent resume lets answers go on");
    Ok(())
}

/// Takes the mark away.
///
/// # Errors
/// It cannot be taken away.
pub fn resume(config: &Config, json: bool) -> Result<()> {
    root()?;
    let was = halt::take(&config.agent.state)?;
    let agent = control::ask_within(&config.control_socket(), &Ask::Halted, PATIENCE).is_ok();
    if json {
        anstream::println!("{}", serde_json::json!({ "halted": false, "was_halted": was, "agent": agent }));
    } else if was {
        anstream::println!("automatic answers go on{}", if agent { "" } else { " as soon as the agent runs" });
    } else {
        anstream::println!("automatic answers were not stopped");
    }
    Ok(())
}

/// Verifies the ledger, by the running agent where there is one.
///
/// # Errors
/// The first record that is not as it was written, or as the manager saw it.
pub fn verify(config: &Config, json: bool) -> Result<()> {
    let socket = config.control_socket();
    let count = if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        let Answer::Done { count, .. } = control::ask(&socket, &Ask::Verify)? else {
            bail!("the agent answered something else");
        };
        count
    } else {
        let folder = config.agent.state.join("ledger");
        if !folder.is_dir() {
            bail!("there is no ledger in {}; has an agent run here?", folder.display());
        }
        let (ledger, _) = Ledger::open(&folder, Keep::default(), SystemClock.now())?;
        ledger.verify(&supervisor::heads::seen(&config.agent.state))?
    };
    if json {
        anstream::println!("{}", serde_json::json!({ "whole": true, "records": count }));
    } else {
        anstream::println!("the ledger is whole: {count} records");
    }
    Ok(())
}

fn root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("stopping answers needs root; run it with sudo");
    }
    Ok(())
}
