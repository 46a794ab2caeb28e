//! Taking the agent off a host: stop it, remove its nftables table, and with `--purge` its state. Safe to
//! repeat.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_host::block_address::Blocker;
use sakimori_host::isolate_host::Isolation;
use sakimori_respond::actions::lock_user;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::rights;
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
    let root = rustix::process::geteuid().is_root();
    // What an agent of this user did is this user's to take away; a system's agent is root's.
    let own = std::fs::metadata(&config.agent.state)
        .is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == rustix::process::geteuid().as_raw());
    if !root && !own {
        bail!("the agent of {} is not this user's; run it with sudo", config.agent.state.display());
    }
    let socket = config.control_socket();
    if control::ask(&socket, &Ask::Stop { uninstall: true }).is_ok() {
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
    let mut blocks = 0;
    if config.agent.state.join("ledger").is_dir() {
        // In the ledger too, so that an agent that is started again does not block them anew.
        let now = SystemClock.now();
        let mut actions = Actions::open(config, ("", None), &config.local_policy()?, now)?;
        blocks = actions.live();
        actions.end(now)?;
        for action in actions.list(false).iter().filter(|action| action.order.action == lock_user::ID) {
            let user = action.order.target.name_of(lock_user::KIND).unwrap_or_default();
            anstream::println!("the user {user} stays locked, by action {}; usermod -U -e '' {user}", action.order.id);
        }
    }
    keeper::end(&config.keeper_socket());
    match Blocker::remove(&config.block_address.table) {
        Ok(()) => anstream::println!("the nftables table {} is removed", config.block_address.table),
        // An agent without this right could not make one, and its ledger says that it did not.
        Err(_) if blocks == 0 && !rights::holds(rights::NET_ADMIN) => {}
        Err(error) => return Err(error).context("cannot remove the nftables table; run it with sudo"),
    }
    match Isolation::remove(&config.isolation_table()) {
        Err(error) if rights::holds(rights::NET_ADMIN) => {
            return Err(error).context("cannot remove the nftables table that isolates this host");
        }
        // Without this right none could be made.
        Ok(()) | Err(_) => {}
    }
    let table = &config.intrusion_prevention.table;
    match sakimori_host::queue_packets::remove(table) {
        Err(error) if rights::holds(rights::NET_ADMIN) => {
            return Err(error).context("cannot remove the nftables tables of the queue");
        }
        // Without this right none could be made.
        Ok(()) | Err(_) => {}
    }
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
