//! Policy: what is on, off and how, per host.
//!
//! A policy is layers, default ← tenant ← group … ← host, which [`merge()`] puts one over the other. An agent gets the result
//! only, numbered, never an older one.

mod antimalware;
mod intrusion_prevention;
mod keep;
mod lasting;
mod merge;
mod scan;
pub mod schema;
mod skew;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::address::Network;

pub use antimalware::{Absent, Antimalware, Excluded, Unjudged};
pub use intrusion_prevention::{Fail, IntrusionPrevention, RuleMode, RuleOverride};
pub use keep::KeepPackets;
pub use lasting::{IsolateHost, LockUser};
pub use merge::{Effective, Layer, PolicyError, merge};
pub use scan::{Found, Left, Missed, Scan};
pub use skew::read;

/// Version of the policy's schema, stated at connect (D21).
pub const SCHEMA_VERSION: u32 = 1;

/// The effective policy of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// One section a module.
    pub modules: Modules,
    /// What the automatic answers must respect everywhere.
    pub response: Response,
    /// What it means when an agent is away.
    #[serde(default)]
    pub presence: Presence,
}

/// What it means when an agent is away; the manager's affair, for each host by its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// An agent that said no goodbye and was not heard of for so many seconds is silent, which is an event.
    pub silent_after_seconds: u64,
    /// Hosts that come and go by themselves: one that was not heard of for so many seconds is retired, and never
    /// silent. 0: hosts stay.
    pub retire_after_seconds: u64,
}

impl Default for Presence {
    fn default() -> Self {
        Self { silent_after_seconds: 30, retire_after_seconds: 0 }
    }
}

/// Sections of the modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Reads logs, makes events, runs host-scope rules.
    pub log_inspection: LogInspection,
    /// Blocks addresses in nftables.
    pub block_address: BlockAddress,
    /// Keeps malicious files from being opened.
    #[serde(default)]
    pub antimalware: Antimalware,
    /// Inspects packets before they are delivered.
    #[serde(default)]
    pub intrusion_prevention: IntrusionPrevention,
}

/// Is a module on?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Runs.
    On,
    /// No process, no hook, and nothing leaves the host.
    Off,
}

/// Does an enforcer act, or only say what it would do?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Says what it would do.
    Detect,
    /// Acts.
    Prevent,
}

/// Log inspection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInspection {
    /// On or off.
    pub state: Switch,
    /// What is read. A log that is absent is a state, not an error.
    pub sources: Vec<LogInput>,
}

/// One log that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInput {
    /// Name of this input, unique on the host; names its stream.
    pub name: String,
    /// Slug of the log source in `content/logs`, `linux/auth`.
    pub source: String,
    /// A file, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The journal's unit or identifier filters (`SYSLOG_IDENTIFIER=sshd`), where it is the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Vec<String>>,
    /// Time zone of times without one; the host's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its events are a probe's: they carry `sakimori.probe`, and what follows stays on the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

/// The enforcer `block_address`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockAddress {
    /// On or off.
    pub state: Switch,
    /// Act, or say what it would do.
    pub mode: Mode,
    /// How long a block lasts, in seconds, unless the playbook says otherwise.
    pub expiry_seconds: u64,
    /// The longest that fresh evidence may prolong a block to, from its beginning.
    pub expiry_most_seconds: u64,
    /// After an undo by hand, how long the same target is not blocked again.
    pub grace_seconds: u64,
    /// Most new blocks a minute; more are refused with an event.
    pub most_per_minute: u32,
    /// Most blocks at a time; one more is refused with an event.
    pub most: u32,
}

/// What every answer respects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Never blocked anywhere.
    pub allow: Vec<Network>,
    /// Proxies and load balancers whose X-Forwarded-For is believed; never blocked anywhere.
    pub trusted_proxies: Vec<Network>,
    /// Playbooks that are shipped switched off and run here, by their slugs.
    #[serde(default)]
    pub playbooks_on: Vec<String>,
    /// Playbooks that do not run here, by their slugs.
    #[serde(default)]
    pub playbooks_off: Vec<String>,
    /// Hosts cut off from all but their manager.
    #[serde(default)]
    pub isolate_host: IsolateHost,
    /// Users of a host that may not sign in.
    #[serde(default)]
    pub lock_user: LockUser,
    /// Programs that are never ended or frozen anywhere, by the whole path of their executable.
    #[serde(default)]
    pub never_kill: Vec<String>,
}

impl Response {
    /// Does a playbook run, that is switched on as it is shipped or not?
    pub fn runs(&self, playbook: &str, enabled: bool) -> bool {
        let listed = |list: &[String]| list.iter().any(|one| one == playbook);
        (enabled || listed(&self.playbooks_on)) && !listed(&self.playbooks_off)
    }
}

/// The layer under all others: detect, and block only what is certain.
pub fn default_layer() -> Layer {
    let policy = Policy {
        modules: Modules {
            log_inspection: LogInspection {
                state: Switch::On,
                sources: vec![
                    file_input("auth", "linux/auth", "/var/log/auth.log"),
                    LogInput {
                        journal: Some(
                            [
                                "sshd",
                                "sshd-session",
                                "sudo",
                                "su",
                                "useradd",
                                "usermod",
                                "groupadd",
                                "gpasswd",
                                "passwd",
                            ]
                            .map(|name| format!("SYSLOG_IDENTIFIER={name}"))
                            .into(),
                        ),
                        file: None,
                        ..file_input("journal-auth", "linux/auth", "")
                    },
                    file_input("nginx-access", "nginx/access", "/var/log/nginx/access.log"),
                ],
            },
            block_address: BlockAddress {
                state: Switch::On,
                mode: Mode::Prevent,
                expiry_seconds: 3_600,
                expiry_most_seconds: 86_400,
                grace_seconds: 3_600,
                most_per_minute: 600,
                most: 200_000,
            },
            antimalware: Antimalware::default(),
            intrusion_prevention: IntrusionPrevention::default(),
        },
        response: Response {
            allow: Vec::new(),
            trusted_proxies: Vec::new(),
            playbooks_on: Vec::new(),
            playbooks_off: Vec::new(),
            isolate_host: IsolateHost::default(),
            lock_user: LockUser::default(),
            never_kill: Vec::new(),
        },
        presence: Presence::default(),
    };
    let Ok(Json::Object(tree)) = serde_json::to_value(policy) else {
        unreachable!("a policy is an object");
    };
    Layer { name: "default".into(), tree }
}

fn file_input(name: &str, source: &str, file: &str) -> LogInput {
    LogInput {
        name: name.into(),
        source: source.into(),
        file: Some(file.into()),
        journal: None,
        zone: None,
        probe: false,
    }
}
