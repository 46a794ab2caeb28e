//! What an agent says of itself: its modules, inputs, link, and its side of the books. Sent up every few
//! seconds and on change, and shown by `sakimori-agent status`.

use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

/// State of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its id; empty before enrolment.
    pub agent: String,
    /// Version of the program.
    pub version: String,
    /// Policy in effect.
    pub policy: u64,
    /// Rule bundle in effect.
    pub bundle: u64,
    /// Is the stream to the manager up?
    pub connected: bool,
    /// What is missing until this host is protected as its newest policy and rules say; empty where nothing is.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// Modules in the order of the catalog.
    pub modules: Vec<ModuleStatus>,
    /// Inputs of log inspection.
    pub inputs: Vec<InputStatus>,
    /// The spool.
    pub spool: SpoolStatus,
    /// Blocks in effect.
    pub blocks: u64,
    /// Results of the newest probe of each module that is on.
    #[serde(default)]
    pub proofs: Vec<ProofStatus>,
    /// What its processes may use and used, the whole last; empty where the kernel holds no budgets.
    #[serde(default)]
    pub budgets: Vec<BudgetStatus>,
    /// Where all answers are stopped: who stopped them, and why.
    #[serde(default)]
    pub halted: Option<String>,
    /// Number of the manager's last halt or resume that it took.
    #[serde(default)]
    pub halt_number: u64,
    /// What the manager may do here: the file of the mandate, `default`, or why the file is not trusted.
    #[serde(default)]
    pub mandate: String,
    /// Settings of the manager's policy that do not apply here, since the mandate holds them.
    #[serde(default)]
    pub held: Vec<String>,
    /// Actions that are taken back by themselves unless somebody confirms them.
    #[serde(default)]
    pub provisional: Vec<String>,
    /// What intrusion prevention judged and what it did not see; absent while it is off.
    #[serde(default)]
    pub network: Option<NetworkStatus>,
    /// Scans: under way, waiting, next and last.
    #[serde(default)]
    pub scans: crate::scans::ScansStatus,
}

/// Figures of intrusion prevention since the agent's start; those of the kernel and the pumps since theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Packets that were judged.
    pub packets: u64,
    /// Connections and other flows.
    pub flows: u64,
    /// Alerts.
    pub alerts: u64,
    /// Packets that were dropped or refused.
    pub dropped: u64,
    /// Flows whose content is encrypted and was not seen.
    pub encrypted_flows: u64,
    /// Answers whose rest was passed over.
    pub passed_over: u64,
    /// Bytes of them.
    pub passed_over_bytes: u64,
    /// Packets that went as the policy says, since nobody judged them in time.
    pub by_policy: u64,
    /// Times when the kernel had no room for more.
    pub overruns: u64,
    /// Files with packets of alerted flows that were written.
    #[serde(default)]
    pub packets_kept: u64,
    /// Such files that went to make room for newer ones.
    #[serde(default)]
    pub packets_dropped: u64,
    /// Alerted flows whose packets were to be kept and were not: the budget was used up, or the disk said no.
    #[serde(default)]
    pub packets_shed: u64,
}

/// What the newest probe of a module said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStatus {
    /// Slug of the module, or `uplink`.
    pub module: String,
    /// Did it do what it is for?
    pub ok: bool,
    /// When it was probed.
    pub at: Timestamp,
    /// When it was last proven.
    pub proven: Option<Timestamp>,
    /// How long the answer took, in milliseconds.
    pub took_ms: u64,
    /// What was seen, or what is wrong.
    pub detail: String,
}

/// What a kind of worker may use and used since the agent began. Work that was put off is in `throttled_us`, work that was
/// cut off in `memory_kills`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetStatus {
    /// `logs`, `malware`, `uplink`, and `agent` for all together.
    pub name: String,
    /// Memory now.
    pub memory_bytes: u64,
    /// Most memory at one time.
    pub memory_peak_bytes: u64,
    /// Memory limit; 0 for none.
    pub memory_most_bytes: u64,
    /// Processes that were ended at the limit.
    pub memory_kills: u64,
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Limit of processor time, in hundredths of one processor; 0 for none.
    pub cpu_most_percent: u32,
    /// Periods of 100 ms in which it had to wait.
    pub throttled: u64,
    /// How long it had to wait, microseconds.
    pub throttled_us: u64,
    /// What of all budgets the kernel does not hold here, and why.
    pub problem: String,
}

/// State of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Slug.
    pub id: String,
    /// `on`, `off`, `failing`.
    pub state: String,
    /// What it lacks, or why it is failing.
    pub detail: String,
    /// How often it was started again after a crash.
    pub restarts: u64,
    /// Its rules, while it is on and has some.
    #[serde(default)]
    pub rules: Option<RulesStatus>,
}

/// Rules of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesStatus {
    /// Those in use.
    pub loaded: u64,
    /// Those that did not load.
    pub refused: u64,
    /// Why the first of these did not.
    pub why: String,
}

impl RulesStatus {
    /// So many are in use, and these did not load.
    pub fn new(loaded: impl TryInto<u64>, errors: &[impl std::fmt::Display]) -> Self {
        let why = errors.first().map(ToString::to_string).unwrap_or_default();
        Self { loaded: loaded.try_into().unwrap_or(u64::MAX), refused: errors.len() as u64, why }
    }
}

/// State and books of one log input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputStatus {
    /// Its name, which is its stream.
    pub name: String,
    /// Slug of its log source.
    pub source: String,
    /// `reading`, `starting` (rules are loaded), `absent`, `waiting` (spool full).
    pub state: String,
    /// Lines read.
    pub lines: u64,
    /// Events made of them (alerts are counted apart).
    pub events: u64,
    /// Alerts.
    pub alerts: u64,
    /// Events that are spooled, alerts among them: number of the next event of the stream.
    pub spooled: u64,
    /// Lost, each cause counted in a batch's header.
    pub lost: u64,
    /// When the last line came.
    pub last: Option<Timestamp>,
}

/// State of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// On disk.
    pub bytes: u64,
    /// Limit.
    pub most_bytes: u64,
    /// Batches that the manager does not have yet.
    pub waiting: u64,
}
