//! The identity folder: `key.pem`, `cert.pem`, `ca.pem`, opened through a descriptor of the folder, so that
//! the worker needs no path. The key never leaves the folder but for signing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, openat, renameat};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Private key of the agent.
pub const KEY: &str = "key.pem";
/// Its certificate, and what lies between it and the CA.
pub const CERTIFICATE: &str = "cert.pem";
/// The manager's CA.
pub const CA: &str = "ca.pem";
const MAX_BYTES: u64 = 256 * 1024;

/// The open folder.
#[derive(Debug)]
pub struct Identity {
    folder: OwnedFd,
}

impl Identity {
    /// Over a descriptor of the folder.
    pub fn new(folder: OwnedFd) -> Self {
        Self { folder }
    }

    /// Private key, PEM.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn key_pem(&self) -> Result<String> {
        self.read(KEY)
    }

    /// Private key.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no key.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.read(KEY)?.as_bytes()).ok().context("key.pem holds no private key")
    }

    /// Certificate and intermediates.
    ///
    /// # Errors
    /// Where the file cannot be read or holds none.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(&self.read(CERTIFICATE)?, CERTIFICATE)
    }

    /// The manager's CA.
    ///
    /// # Errors
    /// Where the file cannot be read or holds none.
    pub fn ca(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(&self.read(CA)?, CA)
    }

    /// Seconds until the certificate's end; negative where it is past. `now` in seconds since the epoch.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn seconds_left(&self, now: i64) -> Result<i64> {
        let certificates = self.certificates()?;
        let first = certificates.first().context("cert.pem holds no certificate")?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(first).map_err(|error| anyhow::anyhow!("cert.pem: {error}"))?;
        Ok(parsed.validity().not_after.timestamp() - now)
    }

    /// Puts a renewed certificate in the place of the former one, whole or not at all.
    ///
    /// # Errors
    /// Where it holds no certificate or cannot be written.
    pub fn renew(&self, pem: &str) -> Result<()> {
        if certificates(pem, "the renewed certificate")?.is_empty() {
            bail!("the manager sent no certificate");
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let beside = ".cert.pem.new";
        let mut file = File::from(openat(&self.folder, beside, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        renameat(&self.folder, beside, &self.folder, CERTIFICATE)?;
        rustix::fs::fsync(&self.folder).context("cannot make the renewed certificate durable")
    }

    fn read(&self, name: &str) -> Result<String> {
        let file = openat(&self.folder, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .with_context(|| format!("cannot open {name} of the identity; enrol this host again"))?;
        let mut text = String::new();
        File::from(file).take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
        Ok(text)
    }
}

/// All certificates of a PEM text.
///
/// # Errors
/// Where there is none, or one is damaged.
pub fn certificates(pem: &str, name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("{name} is damaged: {error}"))?;
    if found.is_empty() {
        bail!("{name} holds no certificate");
    }
    Ok(found)
}
