//! Enrolment: a token becomes this host's own certificate, bound to this machine.
//!
//! A worker makes the key and asks (`worker_uplink::enrol`); the key never leaves the host. The token names the manager
//! and the hash of its CA, so the first connection is verified already. What comes back is kept in two places: key and
//! certificates in the identity folder, which the `uplink` worker's uid owns, and what root relies on (agent id, where the
//! manager is, the key that signs bundles, which machine this is) in `agent.json`, which that uid cannot touch.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prost::Message as _;
use sakimori_wire::ipc::{EnrolAnswer, EnrolAsk, EnrolDone};
use sakimori_wire::machine::Machine;
use sakimori_wire::token::EnrolmentToken;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::files::write_atomically;
use crate::host_facts::HostFacts;
use crate::machine;
use crate::supervisor::worker::{self, Kind, UPLINK_UID};
use crate::worker_uplink::identity;

/// How long an enrolment may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest token file that is read, in bytes.
const LONGEST_TOKEN: usize = 8_192;

/// What the manager said at enrolment, as `agent.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// This agent's id.
    pub agent_id: String,
    /// `host:port` of the manager's agent channel.
    pub link_address: String,
    /// Ed25519 public key that signs bundles, hex.
    pub bundle_key: String,
    /// The machine that was enrolled.
    #[serde(default)]
    pub machine: Machine,
    /// Ed25519 public key that seals orders and policies, hex; empty where the manager had none yet.
    #[serde(default)]
    pub order_key: String,
}

impl Enrolled {
    /// Reads `agent.json`; `None` where this host is not enrolled.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is damaged; enrol this host again", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Where the manager's agent channel is: what this host's configuration says goes before what enrolment said.
    pub fn manager<'a>(&'a self, config: &'a Config) -> &'a str {
        config.agent.manager.as_deref().unwrap_or(&self.link_address)
    }

    /// The fact by which this machine is another one than was enrolled: its disk was copied, or put into another one.
    pub fn is_copied(&self) -> Option<&'static str> {
        self.machine.differs(&machine::read())
    }

    /// Keeps the order key of a manager that had none when this host enrolled.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn pin_order_key(path: &Path, key: &[u8]) -> Result<()> {
        let enrolled = Self::load(path)?.context("this host is not enrolled")?;
        let enrolled = Self { order_key: hex::encode(key), ..enrolled };
        write_atomically(path, &serde_json::to_vec_pretty(&enrolled)?, 0o600)
    }
}

/// The token that an image or a launch template brings, where there is one.
///
/// # Errors
/// It cannot be read, or others than root may read it.
pub fn token_file(config: &Config) -> Result<Option<String>> {
    use std::os::unix::fs::MetadataExt;
    let path = &config.agent.enrolment_token;
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if metadata.mode() & 0o007 != 0 {
        bail!("everybody may read the token in {0}; next: chmod 600 {0}", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() > LONGEST_TOKEN {
        bail!("{} is too long for a token; copy it whole from the manager", path.display());
    }
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// Enrols this host. `again` replaces a former enrolment.
///
/// # Errors
/// What stands in the way, and what to do.
pub fn enroll(config: &Config, token: &str, again: bool) -> Result<Enrolled> {
    if let Some(enrolled) = Enrolled::load(&config.enrolled_file()).ok().flatten()
        && !again
        && enrolled.is_copied().is_none()
    {
        bail!("this host is enrolled as {} already; use --again to replace that", enrolled.agent_id);
    }
    token.parse::<EnrolmentToken>()?;
    let facts = HostFacts::read(config.agent.host_name.as_deref());
    let ask =
        EnrolAsk { token: token.to_owned(), proxy: config.agent.proxy.clone(), host: facts.to_proto().encode_to_vec() };
    let worker = worker::spawn(Kind::Enrol, None)?;
    let answer: EnrolAnswer = worker.ask(&ask, PATIENCE).context("the worker that enrols")?;
    worker.end();
    keep(config, answer.map_err(anyhow::Error::msg)?)
}

fn make(folder: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Ok(()) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", folder.display())),
    }
}

/// Gives something to the `uplink` worker's user; without root that worker runs as ours.
fn give(path: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    chown(path, Some(UPLINK_UID), Some(UPLINK_UID)).with_context(|| format!("cannot give {} away", path.display()))
}

fn keep(config: &Config, done: EnrolDone) -> Result<Enrolled> {
    sakimori_content::keys::public_from_bytes(&done.bundle_key).context("the manager sent no usable bundle key")?;
    if !done.order_key.is_empty() {
        sakimori_content::keys::public_from_bytes(&done.order_key).context("the manager sent no usable order key")?;
    }
    let enrolled = Enrolled {
        agent_id: done.agent_id,
        link_address: done.link_address,
        bundle_key: hex::encode(&done.bundle_key),
        order_key: hex::encode(&done.order_key),
        machine: machine::read(),
    };
    make(&config.agent.state)?;
    // Made under another name that only root can reach into, then put in place.
    let folder = config.agent.state.join("identity.new");
    let _ = std::fs::remove_dir_all(&folder);
    make(&folder)?;
    for (name, text) in
        [(identity::KEY, done.key_pem), (identity::CERTIFICATE, done.certificate_pem), (identity::CA, done.ca_pem)]
    {
        let path = folder.join(name);
        write_atomically(&path, text.as_bytes(), 0o600)?;
        give(&path)?;
    }
    give(&folder)?;
    let _ = std::fs::remove_dir_all(config.identity());
    std::fs::rename(&folder, config.identity()).context("cannot put the identity in place")?;
    // Policy and bundles of a former manager do not count any more.
    for stale in ["policy.json", "bundles", "halt-number", "operators.json", "audit-heads.json", "ledger-seen.json"] {
        let path = config.agent.state.join(stale);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
    }
    // Last, so that an enrolment that was interrupted is none.
    write_atomically(&config.enrolled_file(), &serde_json::to_vec_pretty(&enrolled)?, 0o600)?;
    Ok(enrolled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_file_that_everybody_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.agent.enrolment_token = folder.path().join("token");
        assert_eq!(token_file(&config).unwrap(), None);
        std::fs::write(&config.agent.enrolment_token, " skm1.abc\n").unwrap();
        let open = |mode| {
            std::fs::set_permissions(&config.agent.enrolment_token, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(0o644);
        assert!(token_file(&config).unwrap_err().to_string().contains("chmod 600"));
        open(0o600);
        assert_eq!(token_file(&config).unwrap().as_deref(), Some("skm1.abc"));
        std::fs::write(&config.agent.enrolment_token, "x".repeat(LONGEST_TOKEN + 1)).unwrap();
        assert!(token_file(&config).is_err());
    }

    #[test]
    fn an_identity_of_before_it_was_bound_is_nobodys_copy() {
        let old = r#"{"agent_id": "a", "link_address": "m:1", "bundle_key": "00"}"#;
        let enrolled: Enrolled = serde_json::from_str(old).unwrap();
        assert_eq!(enrolled.is_copied(), None);
        let other = Machine { machine_id: "0".repeat(32), ..Machine::default() };
        let copied = Enrolled { machine: other, ..enrolled }.is_copied();
        assert_eq!(copied.is_some(), !machine::read().machine_id.is_empty());
    }
}
