//! The `enrol` worker: one enrolment, under the uid of the uplink. It makes the key, asks the manager, and hands over what
//! the supervisor (or `enroll`, typed by an administrator) keeps: no process with root's rights speaks to the network.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use sakimori_sys::channel::Channel;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::enrolment_client::EnrolmentClient;
use sakimori_wire::ipc::{EnrolAnswer, EnrolAsk, EnrolDone};
use sakimori_wire::token::EnrolmentToken;
use sha2::{Digest, Sha256};

use super::{identity, tls};

/// Answers the one question of the parent.
///
/// # Errors
/// Where it is not understood, or the parent is gone.
pub fn run(channel: &Channel) -> Result<()> {
    let (bytes, _) = channel.recv().context("cannot read from the parent")?.context("the parent is gone")?;
    let ask: EnrolAsk = postcard::from_bytes(&bytes).context("the question is not understood")?;
    let answer: EnrolAnswer = enrol(&ask).map_err(|error| format!("{error:#}"));
    channel.send(&postcard::to_stdvec(&answer)?, &[]).context("cannot answer the parent")?;
    Ok(())
}

fn enrol(ask: &EnrolAsk) -> Result<EnrolDone> {
    let token: EnrolmentToken = ask.token.parse()?;
    let key = KeyPair::generate().context("cannot make a key")?;
    let csr_pem = CertificateParams::default().serialize_request(&key)?.pem()?;
    let host = proto::Host::decode(ask.host.as_slice()).ok();
    let request = proto::EnrolRequest { token: token.secret.clone(), csr_pem, host };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let reply = runtime.block_on(send(&token, ask.proxy.as_deref(), request))?;
    checked(&token, key.serialize_pem(), reply)
}

async fn send(token: &EnrolmentToken, proxy: Option<&str>, request: proto::EnrolRequest) -> Result<proto::EnrolReply> {
    let peer = Arc::new(Mutex::new(None));
    let channel = tls::open(&token.address, proxy, tls::pinned(token.ca_sha256)?, peer)
        .await
        .with_context(|| format!("cannot reach the manager at {}", token.address))?;
    let mut client = EnrolmentClient::new(channel);
    match client.enrol(request).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => bail!("the manager did not enrol this host: {}", tls::explain(&status)),
    }
}

fn checked(token: &EnrolmentToken, key_pem: String, reply: proto::EnrolReply) -> Result<EnrolDone> {
    let ca = identity::certificates(&reply.ca_pem, "the manager's CA")?;
    if !ca.iter().any(|one| <[u8; 32]>::from(Sha256::digest(one)) == token.ca_sha256) {
        bail!("the manager sent another CA than the token names; ask for a new token");
    }
    identity::certificates(&reply.certificate_pem, "the certificate")?;
    if reply.agent_id.is_empty() || sakimori_wire::token::split_address(&reply.link_address).is_none() {
        bail!("the manager's reply is incomplete; is its version older than four minor versions?");
    }
    Ok(EnrolDone {
        key_pem,
        certificate_pem: reply.certificate_pem,
        ca_pem: reply.ca_pem,
        agent_id: reply.agent_id,
        bundle_key: reply.bundle_key,
        order_key: reply.order_key,
        link_address: reply.link_address,
    })
}
