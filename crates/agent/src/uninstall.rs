//! Taking the agent off a host: stop it, remove its nftables table, and with `--purge` its state. Safe to
//! repeat.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_host::block_address::Blocker;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_wire::ipc::Ask;

use crate::config::Config;
use crate::control;
use crate::supervisor::actions::Actions;
use crate::supervisor::antimalware::keeper;

/// How long the agent may take to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does it.
///
/// # Errors
/// What could not be taken away.
pub fn run(config: &Config, purge: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("uninstalling needs root; run it with sudo");
    }
    let socket = config.control_socket();
    if control::ask(&socket, &Ask::Stop).is_ok() {
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            if Instant::now() > until {
                bail!("the agent did not stop in {} seconds; end it and try again", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anstream::println!("the agent is stopped");
    }
    // Of agents that were killed; a running one removes its own.
    sakimori_sys::cgroup::remove_left();
    if config.agent.state.join("ledger").is_dir() {
        // In the ledger too, so that an agent that is started again does not block them anew.
        let now = SystemClock.now();
        let mut actions = Actions::open(config, "", &config.local_policy()?, now)?;
        actions.end(now)?;
    }
    keeper::end(&config.keeper_socket());
    Blocker::remove(&config.block_address.table).context("cannot remove the nftables table")?;
    anstream::println!("the nftables table {} is removed", config.block_address.table);
    let table = &config.intrusion_prevention.table;
    sakimori_host::queue_packets::remove(table).context("cannot remove the nftables tables of the queue")?;
    crate::supervisor::pump::end_all(config);
    if purge {
        match std::fs::remove_dir_all(&config.agent.state) {
            Ok(()) => anstream::println!("{} is removed", config.agent.state.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", config.agent.state.display()));
            }
        }
    }
    Ok(())
}
