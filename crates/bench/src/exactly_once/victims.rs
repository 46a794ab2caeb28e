//! Who is killed: the processes that we started, and those that they started, which are found in `/proc` by their name
//! and by whose children they are.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};

use crate::api::wait;
use crate::platform::Platform;

/// How long one that was killed may take to be started again: the longest wait of the agent's, and some more.
const AGAIN: Duration = Duration::from_secs(90);

/// A process of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Manager,
    Agent,
    Logs,
    Uplink,
    Keeper,
}

/// All, in the order in which they are reported.
pub const VICTIMS: [Victim; 5] = [Victim::Manager, Victim::Agent, Victim::Logs, Victim::Uplink, Victim::Keeper];

impl Victim {
    /// Its process now, where it runs.
    fn pid(self, platform: &Platform) -> Option<u32> {
        let agent = platform.agent.as_ref().map(|agent| agent.pid());
        match self {
            Self::Manager => platform.manager.as_ref().map(|manager| manager.pid()),
            Self::Agent => agent,
            Self::Logs => child(agent?, "sakimori-worker-logs"),
            Self::Uplink => child(agent?, "sakimori-worker-uplink"),
            // It outlives the agent that started it, so it is known by its socket.
            Self::Keeper => keeper(&platform.dir.join("agent/keeper.sock")),
        }
    }

    /// Is it started again by the agent, and not by us?
    fn is_the_agents(self) -> bool {
        !matches!(self, Self::Manager | Self::Agent)
    }

    /// Sends SIGKILL. What the agent starts again by itself may be about to be: then it is awaited first.
    ///
    /// # Errors
    /// It was not there in time, or cannot be killed.
    pub fn kill(self, platform: &mut Platform) -> Result<()> {
        match self {
            Self::Manager => platform.manager.take().context("no manager runs")?.kill(),
            Self::Agent => platform.agent.take().context("no agent runs")?.kill(),
            _ => {
                let mut found = None;
                wait(&format!("{self:?} runs"), AGAIN, || {
                    found = self.pid(platform);
                    found.is_some()
                })?;
                let pid = found.and_then(|pid| Pid::from_raw(pid.cast_signed())).context("a process has a number")?;
                Ok(kill_process(pid, Signal::KILL)?)
            }
        }
    }

    /// Starts it again, where that is our affair.
    ///
    /// # Errors
    /// It does not begin in time.
    pub fn start_again(self, platform: &mut Platform) -> Result<()> {
        match self {
            Self::Manager => platform.start_manager(),
            Self::Agent => platform.start_agent(),
            _ => Ok(()),
        }
    }
}

/// Waits until everything that the agent starts by itself runs.
///
/// # Errors
/// Something does not in time.
pub fn all_run(platform: &Platform, keeper: bool) -> Result<()> {
    for victim in VICTIMS.into_iter().filter(|victim| victim.is_the_agents()) {
        if keeper || victim != Victim::Keeper {
            wait(&format!("{victim:?} runs"), AGAIN, || victim.pid(platform).is_some())?;
        }
    }
    Ok(())
}

/// Places of the kills, in order: each victim as often as asked for, at lines drawn from the seed, and not at the very end,
/// where nothing is in flight any more.
pub fn places(random: &mut StdRng, kills: u64, lines: u64, keeper: bool) -> Vec<(u64, Victim)> {
    let mut places = Vec::new();
    for victim in VICTIMS.into_iter().filter(|victim| keeper || *victim != Victim::Keeper) {
        places.extend((0..kills).map(|_| (random.random_range(1..lines * 3 / 4), victim)));
    }
    places.sort_by_key(|place| place.0);
    places
}

fn processes() -> impl Iterator<Item = u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn arguments(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// A child of this process by the name that it was given.
fn child(parent: u32, name: &str) -> Option<u32> {
    processes().find(|pid| arguments(*pid).first().is_some_and(|own| own == name) && parent_of(*pid) == Some(parent))
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn keeper(socket: &Path) -> Option<u32> {
    processes().find(|pid| {
        let words = arguments(*pid);
        words.first().is_some_and(|name| name == "sakimori-keeper")
            && words.iter().any(|word| Path::new(word) == socket)
    })
}
