//! The manager's own certificate authority, and the TLS of its two listeners.
//!
//! The CA's key never leaves its folder, where it is sealed. An agent's certificate carries its id as common name, lives 90 days,
//! and is made of nothing of the request but its public key. The link asks for a client certificate without
//! insisting, since enrolment has none yet; the chain is verified here, times by [`crate::link`], so that an
//! expired agent can still renew (D22).

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName as Name, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use sakimori_model::Timestamp;
use sakimori_runtime::Secret;
use sha2::{Digest, Sha256};

use crate::config::Api;
use crate::ingest::settings::Syslog;
use crate::sealing::{Sealing, files};

/// How long an agent's certificate lives.
pub const AGENT_DAYS: i64 = 90;
/// How long a server certificate lives; a new one is made at every start.
const SERVER_DAYS: i64 = 365;
const CA_DAYS: i64 = 20 * 365;

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    names: Vec<String>,
    now: Timestamp,
}

/// A certificate of an agent.
#[derive(Clone, Debug)]
pub struct Signed {
    /// PEM.
    pub pem: String,
    /// Its serial, hex.
    pub serial: String,
}

impl Authority {
    /// Opens the authority of a state folder, making it where there is none. `names` are the names and addresses that
    /// the server certificates are for, beside the machine's own.
    ///
    /// # Errors
    /// A folder that cannot be used, or a damaged key.
    pub fn open(state: &Path, sealing: &Sealing, names: &[String], now: Timestamp) -> Result<Self> {
        let (key_file, dir) = (state.join(files::CA), state.join("ca"));
        let ca_file = dir.join("ca.pem");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("make {}", dir.display()))?;
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        let there = |path: &Path| path.try_exists().with_context(|| format!("look for {}", path.display()));
        // A certificate without its key is a loss that only a person can judge: agents trust that key alone.
        let lost = there(&ca_file)?;
        let pem = sealing.key_file(state, files::CA, || match lost {
            true => anyhow::bail!("{} is missing beside its certificate; restore it from a backup", key_file.display()),
            false => Ok(Secret::new(KeyPair::generate()?.serialize_pem().into_bytes())),
        })?;
        let damaged = || format!("{} is damaged", key_file.display());
        let key = std::str::from_utf8(pem.expose()).with_context(damaged)?;
        let key = KeyPair::from_pem(key).with_context(damaged)?;
        // A first start may have ended here, after the key.
        if !there(&ca_file)? {
            let pem = ca_params(now)?.self_signed(&key)?.pem();
            files::write_private(&ca_file, pem.as_bytes(), files::Over::Anything, &mut |_| {})
                .with_context(|| format!("write {}", ca_file.display()))?;
        }
        let ca_pem = read(&ca_file)?;
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("the CA's certificate is damaged")?;
        let issuer = Issuer::from_ca_cert_der(&ca_der, key).context("the CA's certificate is damaged")?;
        let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        for name in names {
            let name = sakimori_wire::token::split_address(name).map_or(name.as_str(), |(host, _)| host);
            if !name.is_empty() && !all.iter().any(|known| known == name) {
                all.push(name.to_owned());
            }
        }
        Ok(Self { issuer, ca_pem, ca_der, names: all, now })
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// SHA-256 of the CA certificate's DER: what an enrolment token carries.
    pub fn ca_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.ca_der).into()
    }

    /// A certificate for an agent. Of the request only the public key is taken.
    ///
    /// # Errors
    /// A request that cannot be read.
    pub fn sign_agent(&self, csr_pem: &str, agent: &str, now: Timestamp) -> Result<Signed> {
        let request =
            CertificateSigningRequestParams::from_pem(csr_pem).context("the certificate request is damaged")?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = common_name(agent);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        valid(&mut params, now, AGENT_DAYS)?;
        let mut serial: [u8; 16] = rand::random();
        // Positive and of full length, so that DER writes these very bytes (RFC 5280, 4.1.2.2).
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(Signed { pem: certificate.pem(), serial: hex::encode(serial) })
    }

    /// TLS 1.3 of the agents' channel.
    ///
    /// # Errors
    /// A certificate that cannot be made.
    pub fn link_tls(&self) -> Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone())?;
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let (certificates, key) = self.server_certificate()?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Agents { chain, provider }))
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS of the API: a certificate of the user's, or one of the CA.
    ///
    /// # Errors
    /// A certificate that cannot be read or made.
    pub fn api_tls(&self, api: &Api) -> Result<Arc<ServerConfig>> {
        let (certificates, key) = match (&api.certificate, &api.key) {
            (Some(chain), Some(key)) => (
                CertificateDer::pem_file_iter(chain)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .with_context(|| format!("read api.certificate {}", chain.display()))?,
                PrivateKeyDer::from_pem_file(key).with_context(|| format!("read api.key {}", key.display()))?,
            ),
            (None, None) => self.server_certificate()?,
            _ => anyhow::bail!("api.certificate and api.key belong together; give both or none"),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS of a listener for syslog: a certificate of its own or one of this authority, and senders' certificates where an
    /// authority for them is named.
    ///
    /// # Errors
    /// Files that cannot be read or are no certificates.
    pub fn syslog_tls(&self, way: &Syslog) -> Result<Arc<ServerConfig>> {
        let (certificates, key) = match (&way.certificate, &way.key) {
            (Some(chain), Some(key)) => (
                CertificateDer::pem_file_iter(chain)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .with_context(|| format!("read certificate {}", chain.display()))?,
                PrivateKeyDer::from_pem_file(key).with_context(|| format!("read key {}", key.display()))?,
            ),
            _ => self.server_certificate()?,
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match &way.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = rustls::RootCertStore::empty();
                let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                for authority in read.with_context(|| format!("read client_authority {}", path.display()))? {
                    roots.add(authority).with_context(|| format!("use client_authority {}", path.display()))?;
                }
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        Ok(Arc::new(builder.with_single_cert(certificates, key)?))
    }

    fn server_certificate(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = common_name("sakimori manager");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for name in &self.names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => {
                    SanType::DnsName(name.as_str().try_into().with_context(|| format!("{name} is no host name"))?)
                }
            });
        }
        valid(&mut params, self.now, SERVER_DAYS)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        // The CA goes along: a host that enrols knows its hash only.
        let chain = vec![certificate.der().clone(), self.ca_der.clone()];
        Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }
}

fn ca_params(now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = common_name("Sakimori CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, CA_DAYS)?;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut whole = DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

/// From a day ago (clocks differ) for so many days.
fn valid(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<()> {
    let date = |time: Timestamp| {
        use chrono::Datelike;
        let day = time.to_chrono();
        let (month, date) = (u8::try_from(day.month())?, u8::try_from(day.day())?);
        anyhow::Ok(rcgen::date_time_ymd(day.year(), month, date))
    };
    params.not_before = date(now.plus_secs(-86_400))?;
    params.not_after = date(now.plus_secs(days * 86_400))?;
    Ok(())
}

/// Verifies a client's chain against the CA at the moment that its certificate names as its beginning: whether
/// it is expired now is for the link to say.
#[derive(Debug)]
struct Agents {
    chain: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Agents {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[Name] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(end_entity).map_err(|_| bad())?;
        let from = u64::try_from(parsed.validity().not_before.timestamp()).map_err(|_| bad())?;
        let until = u64::try_from(parsed.validity().not_after.timestamp()).map_err(|_| bad())?;
        let at = if now.as_secs() > until {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(from + 1))
        } else {
            now
        };
        self.chain.verify_client_cert(end_entity, intermediates, at)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is required".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_790_000_000;

    fn authority(state: &Path) -> Authority {
        let sealing = Sealing::for_test();
        Authority::open(state, &sealing, &["manager.example:7601".into()], Timestamp::from_secs(NOW)).unwrap()
    }

    fn asked_for(params: CertificateParams) -> String {
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    fn verifier(authority: &Authority) -> Agents {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.ca_der.clone()).unwrap();
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        Agents { chain, provider }
    }

    fn accepts(authority: &Authority, certificate: &CertificateDer<'_>, now: i64) -> bool {
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.cast_unsigned()));
        verifier(authority).verify_client_cert(certificate, &[], now).is_ok()
    }

    #[test]
    fn it_is_made_once_for_the_owner_alone_and_survives_a_start_that_ended_after_the_key() {
        let state = tempfile::tempdir().unwrap();
        let (state, dir) = (state.path(), state.path().join("ca"));
        let first = authority(state);
        for (name, mode) in [("", 0o700), ("ca.key", 0o600), ("ca.pem", 0o600)] {
            assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
        }
        assert!(sakimori_runtime::sealing::is_sealed(&fs::read(dir.join("ca.key")).unwrap()));
        assert_eq!(authority(state).ca_sha256(), first.ca_sha256());
        let signed =
            first.sign_agent(&asked_for(CertificateParams::default()), "a", Timestamp::from_secs(NOW)).unwrap();
        let certificate = CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
        fs::remove_file(dir.join("ca.pem")).unwrap();
        assert!(accepts(&authority(state), &certificate, NOW), "the same key");
        fs::remove_file(dir.join("ca.key")).unwrap();
        let lost = Authority::open(state, &Sealing::for_test(), &[], Timestamp::from_secs(NOW));
        assert!(lost.is_err(), "no new key under an old certificate");
    }

    #[test]
    fn a_request_gives_its_public_key_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let mut wish = CertificateParams::new(vec!["manager.example".to_owned()]).unwrap();
        wish.distinguished_name = common_name("somebody else");
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = authority.sign_agent(&asked_for(wish), "agent-1", Timestamp::from_secs(NOW)).unwrap();
        let der = CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names: Vec<_> = parsed.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, ["agent-1"]);
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        let days = (parsed.validity().not_after.timestamp() - NOW) / 86_400;
        assert!((AGENT_DAYS - 1..=AGENT_DAYS).contains(&days), "{days}");
        assert!(authority.sign_agent("no request", "agent-1", Timestamp::from_secs(NOW)).is_err());
    }

    #[test]
    fn an_expired_chain_of_ours_is_one_and_what_is_not_an_agents_is_none() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, other) = (authority(dir.path()), authority(elsewhere.path()));
        let sign = |by: &Authority| {
            let signed =
                by.sign_agent(&asked_for(CertificateParams::default()), "a", Timestamp::from_secs(NOW)).unwrap();
            CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap()
        };
        assert!(accepts(&ours, &sign(&ours), NOW));
        assert!(accepts(&ours, &sign(&ours), NOW + 400 * 86_400), "whether it is expired is for the link to say");
        assert!(!accepts(&ours, &sign(&ours), NOW - 10 * 86_400), "not yet valid");
        assert!(!accepts(&ours, &sign(&other), NOW), "another CA of the same name");
        assert!(!accepts(&ours, &sign(&other), NOW + 400 * 86_400));
        let (server, _) = ours.server_certificate().unwrap();
        assert!(!accepts(&ours, &server[0], NOW), "the manager's own is no agent's");
        assert!(!accepts(&ours, &CertificateDer::from(vec![0x30, 0x03]), NOW));
    }
}
