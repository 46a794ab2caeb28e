//! Topics of Amazon SNS that are subscribed over HTTP: a message is believed once its signature is right, made by a certificate
//! of Amazon's own, of a topic that is configured, and not too old.
//!
//! - The certificate is fetched from `https://sns.<region>.amazonaws.com` and from nowhere else: the region is the topic's, in
//!   a Chinese partition `amazonaws.com.cn` stands in its place. What the message names is compared with that, not trusted.
//! - A subscription is confirmed only for a topic of the configuration, by a request that is made here of token and topic:
//!   the address that the message names is not called.
//! - A message that was taken is known by its id ([`super::occurrences`]): SNS posts again what it got no answer for, and is
//!   answered that it is here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use sakimori_detect::sns::Envelope;
use sakimori_model::Timestamp;

use super::settings::Sns;

/// How long Amazon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest certificate, in bytes.
const MAX_CERTIFICATE: usize = 64 << 10;
/// Most certificates that are kept.
const MOST: usize = 16;
/// How far ahead of ours a sender's clock may be, in seconds.
const AHEAD: i64 = 900;

/// Why a message is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Of a topic that is not configured.
    Topic,
    /// Its certificate lies elsewhere, or the signature is wrong; what exactly.
    Forged(String),
    /// Older than it may be, or from the future.
    Stale,
    /// It could not be checked at the moment.
    Later(String),
}

/// A certificate's key and until when it holds.
#[derive(Clone, Debug)]
struct Key {
    public: Vec<u8>,
    from: i64,
    until: i64,
}

/// Certificates as they were fetched, by their address.
#[derive(Debug, Default)]
pub struct Certificates {
    known: Mutex<HashMap<String, Arc<Key>>>,
}

/// The origin at which Amazon's SNS is reached for a topic.
///
/// # Errors
/// No ARN of a topic.
pub fn origin(way: &Sns, topic: &str) -> Result<String, Doubt> {
    if let Some(endpoint) = &way.endpoint {
        return Ok(endpoint.trim_end_matches('/').to_owned());
    }
    let wrong = || Doubt::Forged("the topic is no ARN of SNS".into());
    let mut parts = topic.split(':');
    let (Some("arn"), Some(partition), Some("sns"), Some(region)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong());
    };
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if region.is_empty() || region.len() > 32 || !region.chars().all(right) {
        return Err(wrong());
    }
    match partition {
        "aws" | "aws-us-gov" => Ok(format!("https://sns.{region}.amazonaws.com")),
        "aws-cn" => Ok(format!("https://sns.{region}.amazonaws.com.cn")),
        _ => Err(wrong()),
    }
}

/// Is the message believed?
///
/// # Errors
/// Why not.
pub async fn check(certificates: &Certificates, way: &Sns, envelope: &Envelope, now: Timestamp) -> Result<(), Doubt> {
    if !way.topics.iter().any(|topic| *topic == envelope.topic_arn) {
        return Err(Doubt::Topic);
    }
    let origin = origin(way, &envelope.topic_arn)?;
    let forged = |reason: &str| Doubt::Forged(reason.to_owned());
    let address = &envelope.signing_cert_url;
    let path = address.strip_prefix(&origin).ok_or_else(|| forged("its certificate does not lie with Amazon"))?;
    if !is_certificate(path) {
        return Err(forged("its certificate does not lie with Amazon"));
    }
    let algorithm = match envelope.signature_version.as_str() {
        "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        "2" => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(forged("its signature is of an unknown version")),
    };
    let signature = STANDARD.decode(&envelope.signature).map_err(|_| forged("its signature cannot be read"))?;
    let key = certificates.key(address, now).await?;
    UnparsedPublicKey::new(algorithm, &key.public)
        .verify(envelope.signed_text().as_bytes(), &signature)
        .map_err(|_| forged("its signature is wrong"))?;
    // Only of what is signed the time is worth a look.
    let sent = Timestamp::parse(&envelope.timestamp).ok_or_else(|| forged("its time cannot be read"))?;
    let age = now.since(sent);
    if age > i64::from(way.oldest_hours) * 3_600_000_000 || age < -AHEAD * 1_000_000 {
        return Err(Doubt::Stale);
    }
    Ok(())
}

/// Confirms the subscription of a message that was believed.
///
/// # Errors
/// Amazon was not reached, or said no.
pub async fn confirm(way: &Sns, envelope: &Envelope) -> Result<(), String> {
    let origin = origin(way, &envelope.topic_arn).map_err(|doubt| format!("{doubt:?}"))?;
    let token = envelope.token.as_deref().unwrap_or_default();
    let client = sakimori_runtime::http::client(TIMEOUT).map_err(|error| error.to_string())?;
    let query = [("Action", "ConfirmSubscription"), ("TopicArn", &envelope.topic_arn), ("Token", token)];
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let answer = client.get(format!("{origin}/?{}", query.join("&"))).send().await;
    let answer = answer.map_err(|error| error.without_url().to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("SNS answered {}", answer.status())) }
}

/// A value of a query (RFC 3986).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte))
        } else {
            out.push_str(&format!("%{byte:02X}"))
        }
        out
    })
}

/// Is it the path of a certificate of this service, as it names them? Nothing else is fetched on a stranger's word.
fn is_certificate(path: &str) -> bool {
    let name = path.strip_prefix("/SimpleNotificationService-").and_then(|rest| rest.strip_suffix(".pem"));
    name.is_some_and(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Certificates {
    /// The key of the certificate at this address, while it holds.
    async fn key(&self, address: &str, now: Timestamp) -> Result<Arc<Key>, Doubt> {
        let holds = |key: &Key| (key.from..=key.until).contains(&now.micros().div_euclid(1_000_000));
        let known = self.known.lock().ok().and_then(|known| known.get(address).cloned());
        if let Some(key) = known.filter(|key| holds(key)) {
            return Ok(key);
        }
        let key = Arc::new(fetch(address).await?);
        if !holds(&key) {
            return Err(Doubt::Forged("its certificate does not hold now".into()));
        }
        if let Ok(mut known) = self.known.lock() {
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(address.to_owned(), Arc::clone(&key));
        }
        Ok(key)
    }
}

async fn fetch(address: &str) -> Result<Key, Doubt> {
    let later = |reason: String| Doubt::Later(format!("fetch its certificate: {reason}"));
    let client = sakimori_runtime::http::client(TIMEOUT).map_err(|error| later(error.to_string()))?;
    let answer = client.get(address).send().await.map_err(|error| later(error.without_url().to_string()))?;
    if !answer.status().is_success() {
        return Err(later(format!("the answer was {}", answer.status())));
    }
    let mut answer = answer;
    let mut pem = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| later(error.without_url().to_string()))? {
        pem.extend_from_slice(&chunk);
        if pem.len() > MAX_CERTIFICATE {
            return Err(Doubt::Forged("its certificate is too large".into()));
        }
    }
    key_of(&pem).ok_or_else(|| Doubt::Forged("its certificate cannot be read".into()))
}

/// The key of a certificate in PEM: the RSA key as ring takes it (PKCS#1).
fn key_of(pem: &[u8]) -> Option<Key> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    Some(Key {
        public: certificate.public_key().subject_public_key.data.to_vec(),
        from: validity.not_before.timestamp(),
        until: validity.not_after.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(endpoint: Option<&str>) -> Sns {
        let text = "name = \"t\"\ntopics = [\"arn:aws:sns:ap-northeast-1:1:a\"]\n";
        Sns { endpoint: endpoint.map(str::to_owned), ..toml::from_str(text).unwrap() }
    }

    #[test]
    fn certificates_lie_with_the_partition_of_the_topic() {
        let of = |topic: &str| origin(&way(None), topic);
        assert_eq!(of("arn:aws:sns:ap-northeast-1:1:a").unwrap(), "https://sns.ap-northeast-1.amazonaws.com");
        assert_eq!(of("arn:aws-cn:sns:cn-north-1:1:a").unwrap(), "https://sns.cn-north-1.amazonaws.com.cn");
        assert_eq!(of("arn:aws-us-gov:sns:us-gov-west-1:1:a").unwrap(), "https://sns.us-gov-west-1.amazonaws.com");
        for bad in ["", "arn:aws:sqs:r:1:a", "arn:other:sns:r:1:a", "arn:aws:sns:evil.example/:1:a", "arn:aws:sns::1:a"]
        {
            assert!(matches!(of(bad), Err(Doubt::Forged(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_certificate_from_elsewhere_is_never_fetched() {
        let certificates = Certificates::default();
        let mut envelope = Envelope::parse(
            br#"{"Type":"Notification","MessageId":"m","TopicArn":"arn:aws:sns:ap-northeast-1:1:a","Message":"x","Timestamp":"2026-11-26T00:00:00Z","SignatureVersion":"1","Signature":"AA=="}"#,
        )
        .unwrap();
        for url in [
            "",
            "http://sns.ap-northeast-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.ap-northeast-1.amazonaws.com.evil.example/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.ap-northeast-1.amazonaws.com@evil.example/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.ap-northeast-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem?x=.pem",
            "https://sns.ap-northeast-1.amazonaws.com/../SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.ap-northeast-1.amazonaws.com:8443/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.ap-northeast-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.der",
            "https://sns.ap-northeast-1.amazonaws.com/a.pem",
            "https://sns.ap-northeast-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef/x.pem",
        ] {
            envelope.signing_cert_url = url.into();
            let outcome = check(&certificates, &way(None), &envelope, Timestamp::from_secs(1)).await;
            assert!(matches!(&outcome, Err(Doubt::Forged(reason)) if reason.contains("Amazon")), "{url}: {outcome:?}");
        }
        envelope.topic_arn = "arn:aws:sns:ap-northeast-1:1:other".into();
        let outcome = check(&certificates, &way(None), &envelope, Timestamp::from_secs(1)).await;
        assert_eq!(outcome, Err(Doubt::Topic));
        assert_eq!(escaped("a:b/é~"), "a%3Ab%2F%C3%A9~");
    }
}
