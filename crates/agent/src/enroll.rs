//! Enrolment: a one-time token becomes this host's own certificate.
//!
//! The key is made here and never leaves the host. The token names the manager and the hash of its CA, so the
//! first connection is verified already. What comes back is kept in two places: key and certificates in the
//! identity folder, which the `uplink` worker's uid owns, and what root relies on (agent id, where the manager is,
//! the key that signs bundles) in `agent.json`, which that uid cannot touch.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use rcgen::{CertificateParams, KeyPair};
use sakimori_wire::agent as proto;
use sakimori_wire::agent::enrolment_client::EnrolmentClient;
use sakimori_wire::token::EnrolmentToken;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::files::write_atomically;
use crate::host_facts::HostFacts;
use crate::supervisor::worker::UPLINK_UID;
use crate::worker_uplink::{identity, tls};

/// What the manager said at enrolment, as `agent.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// This agent's id.
    pub agent_id: String,
    /// `host:port` of the manager's agent channel.
    pub link_address: String,
    /// Ed25519 public key that signs bundles, hex.
    pub bundle_key: String,
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
}

/// Enrols this host. `again` replaces a former enrolment.
///
/// # Errors
/// What stands in the way, and what to do.
pub fn enroll(config: &Config, token: &str, again: bool) -> Result<Enrolled> {
    if !rustix::process::geteuid().is_root() {
        bail!("enrolling needs root; run it with sudo");
    }
    if let Some(enrolled) = Enrolled::load(&config.enrolled_file()).ok().flatten()
        && !again
    {
        bail!("this host is enrolled as {} already; use --again to replace that", enrolled.agent_id);
    }
    let token: EnrolmentToken = token.parse()?;
    let key = KeyPair::generate().context("cannot make a key")?;
    let csr_pem = CertificateParams::default().serialize_request(&key)?.pem()?;
    let facts = HostFacts::read(config.agent.host_name.as_deref());
    let request = proto::EnrolRequest { token: token.secret.clone(), csr_pem, host: Some(facts.to_proto()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let reply = runtime.block_on(ask(&token, config.agent.proxy.as_deref(), request))?;
    keep(config, &token, &key, reply)
}

async fn ask(token: &EnrolmentToken, proxy: Option<&str>, request: proto::EnrolRequest) -> Result<proto::EnrolReply> {
    let peer = Arc::new(Mutex::new(None));
    let channel = tls::open(&token.address, proxy, tls::pinned(token.ca_sha256)?, peer)
        .await
        .with_context(|| format!("cannot reach the manager at {}", token.address))?;
    let call = EnrolmentClient::new(channel);
    match { call }.enrol(request).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => bail!("the manager did not enrol this host: {}", tls::explain(&status)),
    }
}

fn keep(config: &Config, token: &EnrolmentToken, key: &KeyPair, reply: proto::EnrolReply) -> Result<Enrolled> {
    let ca = identity::certificates(&reply.ca_pem, "the manager's CA")?;
    if !ca.iter().any(|one| <[u8; 32]>::from(Sha256::digest(one)) == token.ca_sha256) {
        bail!("the manager sent another CA than the token names; ask for a new token");
    }
    identity::certificates(&reply.certificate_pem, "the certificate")?;
    sakimori_content::keys::public_from_bytes(&reply.bundle_key).context("the manager sent no usable bundle key")?;
    if reply.agent_id.is_empty() || sakimori_wire::token::split_address(&reply.link_address).is_none() {
        bail!("the manager's reply is incomplete; is its version older than four minor versions?");
    }
    let enrolled = Enrolled {
        agent_id: reply.agent_id,
        link_address: reply.link_address,
        bundle_key: hex::encode(&reply.bundle_key),
    };
    let make = |folder: &Path| -> Result<()> {
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
            Ok(()) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot make {}", folder.display())),
        }
    };
    make(&config.agent.state)?;
    // Made under another name that only root can reach into, then put in place.
    let folder = config.agent.state.join("identity.new");
    let _ = std::fs::remove_dir_all(&folder);
    make(&folder)?;
    let own = |path: &Path| {
        chown(path, Some(UPLINK_UID), Some(UPLINK_UID)).with_context(|| format!("cannot give {} away", path.display()))
    };
    for (name, text) in [
        (identity::KEY, key.serialize_pem()),
        (identity::CERTIFICATE, reply.certificate_pem),
        (identity::CA, reply.ca_pem),
    ] {
        let path = folder.join(name);
        write_atomically(&path, text.as_bytes(), 0o600)?;
        own(&path)?;
    }
    own(&folder)?;
    let _ = std::fs::remove_dir_all(config.identity());
    std::fs::rename(&folder, config.identity()).context("cannot put the identity in place")?;
    // Policy and bundles of a former manager do not count any more.
    for stale in ["policy.json", "bundles"] {
        let path = config.agent.state.join(stale);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
    }
    // Last, so that an enrolment that was interrupted is none.
    write_atomically(&config.enrolled_file(), &serde_json::to_vec_pretty(&enrolled)?, 0o600)?;
    Ok(enrolled)
}
