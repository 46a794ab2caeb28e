//! The first certificate of a chain, in the words that rules use.

use sha1::{Digest, Sha1};
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A side's certificates.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub serial: Vec<u8>,
    pub fingerprint: Vec<u8>,
    pub der: Vec<u8>,
    pub names: Vec<Vec<u8>>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub chain: u32,
}

fn colons(bytes: &[u8], upper: bool) -> Vec<u8> {
    let parts: Vec<String> =
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect();
    parts.join(":").into_bytes()
}

/// Does the outermost sequence say that it is longer than what is there?
fn is_cut(der: &[u8]) -> bool {
    match der {
        [0x30, 0x82, high, low, rest @ ..] => usize::from(u16::from_be_bytes([*high, *low])) > rest.len(),
        [0x30, 0x81, length, rest @ ..] => usize::from(*length) > rest.len(),
        [0x30, length @ 0..=0x7f, rest @ ..] => usize::from(*length) > rest.len(),
        _ => false,
    }
}

impl Certificate {
    /// Reads a certificate; the error is the event's name.
    pub(super) fn parse(der: &[u8]) -> Result<Self, &'static str> {
        if is_cut(der) {
            return Err("tls.certificate_invalid_length");
        }
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
            x509_parser::nom::Err::Incomplete(_) => "tls.certificate_invalid_length",
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => match error {
                X509Error::InvalidCertificate => "tls.invalid_certificate",
                X509Error::Der(x509_parser::asn1_rs::Error::InvalidLength) => "tls.certificate_invalid_length",
                X509Error::Der(x509_parser::asn1_rs::Error::Incomplete(_)) => "tls.certificate_invalid_length",
                _ => "tls.invalid_certificate",
            },
        })?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| {
            extension
                .value
                .general_names
                .iter()
                .take(256)
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                        Some(name.as_bytes().to_vec())
                    }
                    _ => None,
                })
                .collect()
        });
        Ok(Self {
            subject: certificate.subject().to_string().into_bytes(),
            issuer: certificate.issuer().to_string().into_bytes(),
            serial: colons(certificate.tbs_certificate.raw_serial(), true),
            fingerprint: colons(&Sha1::digest(der), false),
            der: der.to_vec(),
            names: names.unwrap_or_default(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            chain: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_ones_are_an_event() {
        assert!(Certificate::parse(b"").is_err());
        assert!(Certificate::parse(&[0x30, 0x82, 0x10, 0x00, 1]).is_err());
    }
}
