//! Roll-outs of a policy layer in stages: what is kept of one, and how it is judged. Pure but for [`Record::read`]'s JSON.
//!
//! ```text
//! first ── time is over, or by hand; all of the stage took it and none fails ──▶ done       a version of the layer
//!   │ └─── by hand ──▶ withdrawn     the first hosts go back
//!   └─ a host of the stage fails ──▶ halted ── by hand ──▶ done, or withdrawn
//! ```
//! A host fails where a module or proof that was well when the roll-out began is failing now, or where it was connected and
//! is silent. What failed before is not the policy's doing. While it is halted every host keeps what it has.
//!
//! Hosts come and go meanwhile. One that was revoked, forgotten or retired is of the stage no more; one that is not connected
//! is not waited for, and says nothing of how it does. Where nobody is left who could say it, or not all have it an hour after
//! the time was over, it halts too: people decide then.

use sakimori_model::Timestamp;
use sakimori_wire::status::AgentStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// Least time that a first stage is looked at before the others follow, in seconds: a status comes every five.
pub const LEAST: i64 = 60;
/// How long after its time hosts that do not have it are waited for, in seconds.
pub const LATE: i64 = 3_600;

/// What is kept of a roll-out beside its row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What is to become of the layer.
    pub tree: Map<String, Json>,
    /// The version of the layer that it was made from; 0 where there was none.
    pub over: i64,
    /// Who began it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When all others follow by themselves; `None`: by hand only.
    pub next: Option<Timestamp>,
    /// Hosts of the first stage that may fail before it halts.
    pub most_failing: u32,
    /// How it came to where it stands.
    pub why: String,
    /// The version that it became; 0 until it is done.
    pub number: i64,
}

impl Record {
    /// Reads a row's.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("a roll-out cannot be read: {error}"))
    }

    /// As the row keeps it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How a host was when a roll-out began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Was it connected?
    pub connected: bool,
    /// Modules and proofs that were failing.
    pub failing: Vec<String>,
}

/// How a host of the first stage is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// Has it the policy?
    pub took: bool,
    /// What of it fails since it has it, each with why.
    pub failing: Vec<String>,
}

/// What a host is known to be doing now.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Its status, as it last said.
    pub status: AgentStatus,
    /// Is it connected?
    pub connected: bool,
    /// Is it known to be silent?
    pub silent: bool,
}

/// What fails on a host, by name.
fn failing(status: &AgentStatus) -> Vec<(String, String)> {
    let modules = status.modules.iter().filter(|module| module.state == "failing");
    let modules = modules.map(|module| (module.id.clone(), module.detail.clone()));
    let proofs = status.proofs.iter().filter(|proof| !proof.ok);
    let proofs = proofs.map(|proof| (format!("proof of {}", proof.module), proof.detail.clone()));
    modules.chain(proofs).collect()
}

impl Baseline {
    /// Of a host as it is now.
    pub fn of(now: &Now) -> Self {
        let failing = failing(&now.status).into_iter().map(|(name, _)| name).collect();
        Self { connected: now.connected, failing }
    }
}

/// How a host is doing since a roll-out whose policy has this number.
pub fn doing(before: &Baseline, now: &Now, number: u64) -> Doing {
    let took = now.status.policy >= number;
    let mut found = Vec::new();
    if took {
        let new = failing(&now.status).into_iter().filter(|(name, _)| !before.failing.contains(name));
        found.extend(new.map(|(name, detail)| format!("{name}: {detail}")));
    }
    if before.connected && now.silent {
        found.push("it is silent since".to_owned());
    }
    Doing { took, failing: found }
}

/// What is to become of a roll-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet, and what it waits for.
    Wait(String),
    /// All others follow.
    Go,
    /// It halts, and why.
    Halt(String),
}

/// Judges a first stage. `hosts`: host name, whether it is connected now, and how it is doing; without those that are gone for
/// good.
pub fn judge(record: &Record, hosts: &[(String, bool, Doing)], now: Timestamp) -> Verdict {
    let failing: Vec<&(String, bool, Doing)> = hosts.iter().filter(|(_, _, doing)| !doing.failing.is_empty()).collect();
    if failing.len() > usize::try_from(record.most_failing).unwrap_or(usize::MAX) {
        let told: Vec<String> =
            failing.iter().take(5).map(|(name, _, doing)| format!("{name}: {}", doing.failing.join(", "))).collect();
        return Verdict::Halt(format!("{} of {} hosts fail: {}", failing.len(), hosts.len(), told.join("; ")));
    }
    if hosts.is_empty() {
        return Verdict::Halt("no host of the first stage is left".into());
    }
    let Some(next) = record.next else { return Verdict::Wait("it goes on when somebody says so".into()) };
    if now < next {
        return Verdict::Wait(format!("all others follow at {next}"));
    }
    let there = || hosts.iter().filter(|(_, connected, _)| *connected);
    let late = there().filter(|(_, _, doing)| !doing.took).count();
    let why = if late > 0 {
        format!("{late} connected hosts of the first stage do not have it yet")
    } else if there().count() == 0 {
        "no host of the first stage is connected that could say how it does".to_owned()
    } else {
        return Verdict::Go;
    };
    if now < next.plus_secs(LATE) { Verdict::Wait(why) } else { Verdict::Halt(why) }
}

/// Picks so many of a hundred hosts, at least one, by a hash of their ids and the roll-out's: whoever is picked tells
/// nothing of the next time.
pub fn pick(agents: &[String], percent: u32, seed: &str) -> Vec<String> {
    use sha2::{Digest, Sha256};
    let most = (agents.len() * usize::try_from(percent.min(100)).unwrap_or(100)).div_ceil(100).min(agents.len());
    let mut ordered: Vec<(Vec<u8>, &String)> =
        agents.iter().map(|agent| (Sha256::digest(format!("{seed}/{agent}")).to_vec(), agent)).collect();
    ordered.sort();
    let mut picked: Vec<String> = ordered.into_iter().take(most).map(|(_, agent)| agent.clone()).collect();
    picked.sort();
    picked
}

#[cfg(test)]
mod tests {
    use sakimori_wire::status::{ModuleStatus, ProofStatus};

    use super::*;

    fn now(policy: u64, module: &str, proof: bool) -> Now {
        let module = ModuleStatus { id: "m".into(), state: module.into(), ..Default::default() };
        let proof = ProofStatus { module: "m".into(), ok: proof, ..Default::default() };
        let status = AgentStatus { policy, modules: vec![module], proofs: vec![proof], ..Default::default() };
        Now { status, connected: true, silent: false }
    }

    fn record(next: Option<i64>) -> Record {
        Record {
            tree: Map::new(),
            over: 0,
            author: "user:ann".into(),
            reason: String::new(),
            next: next.map(Timestamp::from_secs),
            most_failing: 0,
            why: String::new(),
            number: 0,
        }
    }

    #[test]
    fn what_failed_before_is_not_the_policy_s_doing() {
        let well = Baseline::of(&now(1, "on", true));
        assert_eq!(doing(&well, &now(5, "on", true), 5), Doing { took: true, failing: Vec::new() });
        assert!(!doing(&well, &now(4, "failing", false), 5).took);
        assert!(doing(&well, &now(4, "failing", false), 5).failing.is_empty(), "it has not the policy yet");
        assert_eq!(doing(&well, &now(5, "failing", false), 5).failing.len(), 2);
        let ill = Baseline::of(&now(1, "failing", true));
        assert_eq!(doing(&ill, &now(5, "failing", true), 5).failing, Vec::<String>::new());
        assert_eq!(doing(&ill, &now(5, "failing", false), 5).failing, ["proof of m: "]);
        let silent = Now { silent: true, connected: false, ..now(4, "on", true) };
        assert_eq!(doing(&well, &silent, 5).failing.len(), 1);
        let away = Baseline { connected: false, ..well };
        assert_eq!(doing(&away, &silent, 5).failing.len(), 0, "it was away before");
    }

    #[test]
    fn the_others_follow_when_the_time_is_over_and_none_of_the_first_fails() {
        let host = |connected, took, fails: bool| {
            let failing = if fails { vec!["m: broken".to_owned()] } else { Vec::new() };
            ("web-1".to_owned(), connected, Doing { took, failing })
        };
        let at = Timestamp::from_secs;
        let go = |hosts: &[(String, bool, Doing)], next, now| judge(&record(next), hosts, at(now));
        assert_eq!(go(&[host(true, true, false)], Some(10), 10), Verdict::Go);
        assert!(matches!(go(&[host(true, true, false)], Some(10), 9), Verdict::Wait(_)));
        assert!(matches!(go(&[host(true, true, false)], None, 99), Verdict::Wait(_)), "by hand only");
        assert!(matches!(go(&[host(false, false, false)], Some(10), 99), Verdict::Wait(_)), "nobody has it");
        assert!(matches!(go(&[host(false, true, false)], Some(10), 99), Verdict::Wait(_)), "it took it and went away");
        assert!(matches!(go(&[host(false, true, false)], Some(10), 10 + LATE), Verdict::Halt(_)), "not for ever");
        assert!(matches!(go(&[host(true, false, false)], Some(10), 10 + LATE), Verdict::Halt(_)));
        for next in [None, Some(10)] {
            assert!(matches!(go(&[], next, 0), Verdict::Halt(why) if why.contains("is left")), "all are gone");
        }
        assert!(matches!(go(&[host(true, true, false), host(true, false, false)], Some(1), 9), Verdict::Wait(_)));
        assert_eq!(go(&[host(true, true, false), host(false, false, false)], Some(1), 9), Verdict::Go);
        let Verdict::Halt(why) = go(&[host(true, true, true), host(true, true, false)], Some(1), 0) else {
            panic!("it halts")
        };
        assert_eq!(why, "1 of 2 hosts fail: web-1: m: broken");
        let lenient = Record { most_failing: 1, ..record(Some(1)) };
        assert_eq!(judge(&lenient, &[host(true, true, true)], at(9)), Verdict::Go);
    }

    #[test]
    fn a_share_is_at_least_one_host_and_another_one_each_time() {
        let agents: Vec<String> = (0..20).map(|number| format!("agent-{number}")).collect();
        assert_eq!(pick(&agents, 1, "a").len(), 1);
        assert_eq!(
            (pick(&agents, 25, "a").len(), pick(&agents, 100, "a")),
            (5, {
                let mut all = agents.clone();
                all.sort();
                all
            })
        );
        assert_eq!(pick(&agents, 50, "a"), pick(&agents, 50, "a"));
        assert_ne!(pick(&agents, 50, "a"), pick(&agents, 50, "b"));
        assert_eq!(pick(&[], 50, "a"), Vec::<String>::new());
    }
}
