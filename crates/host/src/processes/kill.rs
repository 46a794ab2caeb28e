//! `kill_tree`: all of a tree is stopped before any of it is ended.
//!
//! ```text
//! look → SIGSTOP from the root down → look again … until nobody new is there and all stand still → SIGKILL → look until gone
//! ```
//! A tree that forks faster than it is ended would get away otherwise: who is stopped forks no more, and what a parent left is
//! still its child while the parent is only stopped. The rounds are bounded in number and time; what is left then is told, and
//! the action is tried again.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sakimori_model::Action;
use sakimori_model::policy::Policy;
use sakimori_respond::actions::process;
use sakimori_respond::ports::{Applied, HostEffect, PortError};

use super::choose::Spare;
use super::table::Proc;
use super::{Chosen, MAX_ROUNDS, Record, told};

/// Rounds without anybody new after which it is believed that there is none, though some do not stop (one that waits for a
/// disk, or is frozen).
const QUIET_ROUNDS: usize = 5;
/// How long those that were sent `SIGKILL` may take to end.
const ENDING: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Ends processes of this host.
#[derive(Clone, Debug)]
pub struct Killer {
    spare: Spare,
}

impl Killer {
    /// Of this agent, which is spared.
    pub fn new() -> Self {
        Self::sparing(Spare::own())
    }

    /// With others to spare than this program's own: for a test, whose processes are its own children.
    pub fn sparing(spare: Spare) -> Self {
        Self { spare }
    }
}

impl Default for Killer {
    fn default() -> Self {
        Self::new()
    }
}

impl HostEffect for Killer {
    fn set_policy(&mut self, policy: &Policy) {
        self.spare.never.clone_from(&policy.response.never_kill);
    }

    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        Some(Box::new(self.clone()))
    }

    fn apply(&mut self, action: &Action, _: Option<u64>) -> Result<Applied, PortError> {
        let aim = process::aim(&action.order).map_err(PortError::permanent)?;
        let mut chosen = match Chosen::begin(aim, action, &Proc) {
            Ok(chosen) => chosen,
            Err(why) => return Ok(Applied::NoEffect(why)),
        };
        if process::is_dry_run(&action.order) {
            chosen.look(action, &self.spare, &Proc);
            return Ok(told(&chosen, "would end"));
        }
        self.stop(&mut chosen, action);
        if chosen.taken.is_empty() {
            return Ok(told(&chosen, "ended"));
        }
        let (left, forks) = self.end(&mut chosen, action);
        let record = Record::of("SIGKILL", &chosen.taken, &chosen.spared);
        let mut remark = chosen.words(&record, "ended");
        if forks {
            return Err(PortError::permanent(format!("it forks faster than it is ended, {left} are left; {remark}")));
        }
        if left > 0 {
            remark.push_str(&format!("; {left} wait in the kernel for something and end when that is over"));
        }
        Ok(Applied::Done { former: record.json(), remark: Some(remark) })
    }

    fn undo(&mut self, _: &Action) -> Result<Option<String>, PortError> {
        Err(PortError::permanent("nobody gives a process back"))
    }
}

impl Killer {
    /// Stops all, until nobody new is there.
    fn stop(&self, chosen: &mut Chosen, action: &Action) {
        let mut quiet = 0;
        for _ in 0..MAX_ROUNDS {
            let look = chosen.look(action, &self.spare, &Proc);
            for row in &look.fresh {
                chosen.send(row.id(), Signal::STOP);
            }
            quiet = if look.fresh.is_empty() { quiet + 1 } else { 0 };
            let still = look.alive.iter().all(super::table::Row::is_stopped);
            if quiet >= QUIET_ROUNDS || (quiet > 0 && still) || !chosen.has_time() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends all, and says how many are left, and whether there were new ones to the end. The root is the last: whoever does it
    /// again after a crash finds the others by it.
    fn end(&self, chosen: &mut Chosen, action: &Action) -> (usize, bool) {
        for one in chosen.taken.iter().rev().map(|one| (one.pid, one.start)).collect::<Vec<_>>() {
            chosen.send(one, Signal::KILL);
        }
        let until = Instant::now() + ENDING;
        loop {
            let look = chosen.look(action, &self.spare, &Proc);
            for row in &look.fresh {
                chosen.send(row.id(), Signal::KILL);
            }
            if look.alive.is_empty() || Instant::now() >= until {
                return (look.alive.len(), !look.fresh.is_empty());
            }
            std::thread::sleep(PAUSE);
        }
    }
}
