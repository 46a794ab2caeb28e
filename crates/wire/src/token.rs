//! The enrolment token: one line of text that carries all that a host needs for a first connection that
//! is already verified: where the manager is, the hash of its CA's certificate, and a secret that is good
//! for one enrolment.
//!
//! ```text
//! skm1.<base64url, no padding, of {"a": "host:port", "c": "<sha-256 of the CA certificate's DER, hex>", "t": "secret"}>
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "skm1.";
/// Longest token that is read.
const MAX_TEXT: usize = 4096;

/// A token, taken apart. It does not print its secret by `Debug`; `Display` is the whole token.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// `host:port` of the manager's agent channel, an IPv6 address in brackets.
    pub address: String,
    /// SHA-256 of the CA certificate's DER.
    pub ca_sha256: [u8; 32],
    /// What the manager knows the token by; it keeps a hash of it only.
    pub secret: String,
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("an enrolment token begins with \"skm1.\"; copy it whole from the manager")]
    Prefix,
    /// It is cut off or changed.
    #[error("enrolment token is damaged ({0}); copy it whole from the manager")]
    Damaged(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Body {
    a: String,
    c: String,
    t: String,
}

impl EnrolmentToken {
    /// Host and port of the manager.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        split_address(&self.address)
    }
}

/// Splits `host:port`, `[v6]:port`.
pub fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentToken").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Display for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = Body { a: self.address.clone(), c: hex::encode(self.ca_sha256), t: self.secret.clone() };
        let json = serde_json::to_string(&body).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for EnrolmentToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(TokenError::Damaged("too long"));
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged("no base64url"))?;
        let body: Body = serde_json::from_slice(&json).map_err(|_| TokenError::Damaged("content"))?;
        let mut ca_sha256 = [0; 32];
        hex::decode_to_slice(&body.c, &mut ca_sha256).map_err(|_| TokenError::Damaged("hash of the CA"))?;
        if split_address(&body.a).is_none() {
            return Err(TokenError::Damaged("address"));
        }
        if body.t.is_empty() {
            return Err(TokenError::Damaged("secret"));
        }
        Ok(Self { address: body.a, ca_sha256, secret: body.t })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> EnrolmentToken {
        EnrolmentToken { address: "[2001:db8::1]:8444".into(), ca_sha256: [7; 32], secret: "s3cr3t-value".into() }
    }

    #[test]
    fn round_trip_and_address() {
        let token = sample();
        let text = token.to_string();
        assert!(text.starts_with("skm1."));
        let read: EnrolmentToken = format!(" {text}\n").parse().expect("the same token");
        assert_eq!(read, token);
        assert_eq!(read.host_port(), Some(("2001:db8::1", 8444)));
        assert_eq!(split_address("manager.example:1"), Some(("manager.example", 1)));
        assert_eq!(split_address("2001:db8::1:8444"), None);
    }

    #[test]
    fn what_is_wrong_is_said_and_the_secret_is_not() {
        assert_eq!("abc".parse::<EnrolmentToken>(), Err(TokenError::Prefix));
        let text = sample().to_string();
        assert!(matches!(text.split_at(text.len() - 7).0.parse::<EnrolmentToken>(), Err(TokenError::Damaged(_))));
        assert!(!format!("{:?}", sample()).contains("s3cr3t"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in ".{0,200}") {
            let _ = text.parse::<EnrolmentToken>();
            let _ = format!("skm1.{text}").parse::<EnrolmentToken>();
        }
    }
}
