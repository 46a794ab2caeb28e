//! The agent's configuration: `/etc/sakimori/agent.toml`, every value overridden by
//! `SAKIMORI_SECTION__KEY`. Without the file the defaults apply.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sakimori_model::policy::{self, Layer, Policy};
use sakimori_runtime::config;
use sakimori_runtime::telemetry::LogFormat;
use serde::Deserialize;

/// Where the configuration lies when no other place is given.
pub const DEFAULT_PATH: &str = "/etc/sakimori/agent.toml";

/// All settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The agent itself.
    pub agent: Agent,
    /// Its own log.
    pub log: Log,
    /// The spool.
    pub spool: Spool,
    /// What its processes may use.
    pub budget: Budget,
    /// Log inspection, what is this host's own affair.
    pub log_inspection: LogInspection,
    /// Blocking, what is this host's own affair.
    pub block_address: BlockAddress,
    /// Probes of the modules that are on.
    pub proof: Proof,
    /// Intrusion prevention, what is this host's own affair.
    pub intrusion_prevention: IntrusionPrevention,
    /// This host's own policy layer over the default one, in effect until a manager has sent a policy.
    pub policy: serde_json::Map<String, serde_json::Value>,
}

/// The agent itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// Folder of all its state; root only.
    pub state: PathBuf,
    /// `host:port` of the manager's agent channel, where that is another one than enrolment named: the manager moved.
    pub manager: Option<String>,
    /// Proxy on the way to the manager, `http://host:port`.
    pub proxy: Option<String>,
    /// `host.name`; the kernel's where absent.
    pub host_name: Option<String>,
    /// File with a group's token, as images and launch templates bring it: a host that is not enrolled, or is a copy of
    /// one that is, enrols by it. It may be absent.
    pub enrolment_token: PathBuf,
    /// File of the mandate: what the manager may do here. Only root may be able to write it.
    pub mandate: PathBuf,
}

/// Its own log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a filter.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// The spool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Most bytes on disk before reading pauses; an eighth more is kept for alerts about the agent and actions.
    pub most_bytes: u64,
}

/// What all processes of the agent may use together, the keeper aside, and each kind of worker. The kernel holds it by
/// control groups. 0: no limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Most memory of all together, in MiB.
    pub memory_mib: u64,
    /// Most processor time of all together, in hundredths of one processor.
    pub cpu_percent: u32,
    /// Share of the disk's time against other programs, 1 to 1000; 100 is usual.
    pub io_weight: u16,
    /// Most memory of the `logs` worker and `journalctl`; above it the kernel ends a process, which is started again.
    pub logs_memory_mib: u64,
    /// Most processor time of the same; above it they wait.
    pub logs_cpu_percent: u32,
    /// Most memory of the workers that judge files.
    pub malware_memory_mib: u64,
    /// Most processor time of the same.
    pub malware_cpu_percent: u32,
    /// Most memory of the worker that scans.
    pub scan_memory_mib: u64,
    /// Most processor time of the same, where a scan does not say less.
    pub scan_cpu_percent: u32,
    /// Most memory of the workers that judge packets.
    pub network_memory_mib: u64,
    /// Most processor time of the same; packets wait for it.
    pub network_cpu_percent: u32,
    /// Most memory of the `uplink` worker.
    pub uplink_memory_mib: u64,
    /// Most processor time of the same.
    pub uplink_cpu_percent: u32,
}

/// Log inspection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogInspection {
    /// What was in a log before it was read for the first time, and is older than this many seconds by its own
    /// time, causes alerts but no block. 0: no such limit.
    pub history_seconds: u64,
}

/// Blocking.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockAddress {
    /// Name of the nftables table.
    pub table: String,
}

/// Probes of the modules that are on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proof {
    /// Hours between two runs. 0: none, by schedule or by hand.
    pub every_hours: u32,
    /// TCP port of the loopback device where the probe of intrusion prevention asks.
    pub port: u16,
}

/// Intrusion prevention.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntrusionPrevention {
    /// Name of the nftables tables, families `ip` and `ip6`.
    pub table: String,
}

impl Proof {
    /// The port, where there are probes.
    pub fn probed_port(&self) -> Option<u16> {
        (self.every_hours > 0).then_some(self.port)
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            state: "/var/lib/sakimori/agent".into(),
            manager: None,
            proxy: None,
            host_name: None,
            enrolment_token: "/etc/sakimori/enrolment.token".into(),
            mandate: "/etc/sakimori/mandate.toml".into(),
        }
    }
}
impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}
impl Default for Spool {
    fn default() -> Self {
        Self { most_bytes: 256 << 20 }
    }
}
impl Default for Budget {
    fn default() -> Self {
        Self {
            memory_mib: 2_048,
            cpu_percent: 200,
            io_weight: 50,
            logs_memory_mib: 1_024,
            logs_cpu_percent: 100,
            malware_memory_mib: 1_024,
            malware_cpu_percent: 150,
            scan_memory_mib: 1_024,
            scan_cpu_percent: 100,
            network_memory_mib: 1_024,
            network_cpu_percent: 0,
            uplink_memory_mib: 256,
            uplink_cpu_percent: 50,
        }
    }
}
impl Default for LogInspection {
    fn default() -> Self {
        Self { history_seconds: 3_600 }
    }
}
impl Default for Proof {
    fn default() -> Self {
        Self { every_hours: 24, port: 7_609 }
    }
}
impl Default for BlockAddress {
    fn default() -> Self {
        Self { table: "sakimori".into() }
    }
}

impl Default for IntrusionPrevention {
    fn default() -> Self {
        Self { table: "sakimori_ips".into() }
    }
}

impl Config {
    /// Reads the configuration; the file at the default place may be absent.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and line.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let config: Self = match path {
            Some(path) => config::load(Some(path), false, std::env::vars())?,
            None => config::load(Some(Path::new(DEFAULT_PATH)), true, std::env::vars())?,
        };
        config.local_policy().context("section [policy] of the configuration")?;
        Ok(config)
    }

    /// The default policy with this host's own layer over it.
    ///
    /// # Errors
    /// What is wrong in the layer.
    pub fn local_policy(&self) -> Result<Policy> {
        let own = Layer { name: "host".into(), tree: self.policy.clone() };
        Ok(policy::merge(&[policy::default_layer(), own])?.policy)
    }

    /// Folder of key and certificates, owned by the uplink worker's uid.
    pub fn identity(&self) -> PathBuf {
        self.agent.state.join("identity")
    }

    /// What the manager said at enrolment.
    pub fn enrolled_file(&self) -> PathBuf {
        self.agent.state.join("agent.json")
    }

    /// Quarantined files.
    pub fn quarantine(&self) -> PathBuf {
        self.agent.state.join("quarantine")
    }

    /// Packets of alerted flows.
    pub fn packets(&self) -> PathBuf {
        self.agent.state.join("packets")
    }

    /// Name of the nftables table that isolates this host, while it is isolated.
    pub fn isolation_table(&self) -> String {
        format!("{}_isolation", self.block_address.table)
    }

    /// Triage packages.
    pub fn triage(&self) -> PathBuf {
        self.agent.state.join("triage")
    }

    /// Files that probes write: what is found there is a probe's.
    pub fn proof_folder(&self) -> PathBuf {
        self.agent.state.join("proof")
    }

    /// What was given back, by content and path: it is not taken again there.
    pub fn given_back(&self) -> PathBuf {
        self.agent.state.join("given-back")
    }

    /// How scans stand, for after a restart.
    pub fn scans_file(&self) -> PathBuf {
        self.agent.state.join("scans.json")
    }

    /// Socket of the keeper.
    pub fn keeper_socket(&self) -> PathBuf {
        self.agent.state.join("keeper.sock")
    }

    /// Socket of `status`, `actions` and the like.
    pub fn control_socket(&self) -> PathBuf {
        self.agent.state.join("control.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::load(Some(file.path()))
    }

    #[test]
    fn the_guide_shows_the_defaults() {
        let guide = include_str!("../../../docs/configuration.md");
        let (_, after) = guide.split_once("```toml agent\n").expect("an example");
        let (example, _) = after.split_once("```").expect("its end");
        let shown = load(example).expect("it is right");
        assert_eq!(format!("{shown:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn the_local_policy_layer_is_read_and_checked() {
        let config =
            load("[agent]\nstate = \"/x\"\n[policy.modules.block_address]\nexpiry_seconds = 5\n").expect("valid");
        assert_eq!(config.local_policy().expect("valid").modules.block_address.expiry_seconds, 5);
        assert_eq!(config.identity(), Path::new("/x/identity"));
        let error = load("[policy.modules.block_adress]\nexpiry_seconds = 5\n").expect_err("typo");
        assert!(format!("{error:#}").contains("modules.block_adress"), "{error:#}");
        let error = load("[spool]\nmost = 5\n").expect_err("unknown key");
        assert!(format!("{error:#}").contains(":2:"), "{error:#}");
    }
}
