//! The worker that signs a package's statement with the host's identity. It is given the statement and the open files of key
//! and certificate, answers once and ends; the process that reads what an enemy wrote never sees the key, and root parses
//! neither of the files, which belong to the user of the uplink.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use rcgen::{KeyPair, SigningKey};
use sakimori_sys::channel::Channel;
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_wire::triage::{Signed, to_sign};

const CONFINED: Sandbox = Sandbox { executable_memory: false, memory: 64 << 20, descriptors: 16 };
/// Longest file of an identity.
const MAX_FILE: u64 = 256 << 10;

/// Answers the one question of the parent: the statement, with key and certificate beside it.
///
/// # Errors
/// The parent is gone.
pub fn run(channel: &Channel) -> Result<()> {
    sandbox::enter(&CONFINED).context("cannot be confined")?;
    let (bytes, files) = channel.recv()?.context("the parent is gone")?;
    let mut files = files.into_iter().map(File::from);
    let answer = match (String::from_utf8(bytes), files.next(), files.next()) {
        (Ok(statement), Some(key), Some(certificate)) => {
            sign(statement, key, certificate).map_err(|error| format!("{error:#}"))
        }
        _ => Err("the question is not understood".to_owned()),
    };
    channel.send(&postcard::to_stdvec(&answer)?, &[]).context("cannot answer the parent")?;
    Ok(())
}

fn sign(statement: String, key: File, certificate: File) -> Result<Signed> {
    let read = |file: File| {
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).map(|_| text)
    };
    let key = KeyPair::from_pem(&read(key).context("cannot read the key")?).context("key.pem holds no private key")?;
    let signature = key.sign(&to_sign(&statement)).context("the key does not sign")?;
    let certificate = read(certificate).context("cannot read the certificate")?;
    Ok(Signed { statement, signature: hex::encode(signature), certificate })
}
