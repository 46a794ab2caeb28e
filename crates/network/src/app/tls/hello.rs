//! Hello messages, and the fingerprints made of them: JA3, JA3S, JA4.

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::reader::Reader;

/// Most entries of a list that are read.
const MOST_ENTRIES: usize = 1024;

/// What a hello says.
#[derive(Debug, Default)]
pub(super) struct Hello {
    pub version: u16,
    pub random: Vec<u8>,
    pub session: Vec<u8>,
    pub ciphers: Vec<u16>,
    pub extensions: Vec<u16>,
    pub groups: Vec<u16>,
    pub points: Vec<u8>,
    pub signatures: Vec<u16>,
    pub versions: Vec<u16>,
    pub sni: Vec<u8>,
    pub alpn: Vec<Vec<u8>>,
    pub events: Vec<&'static str>,
}

/// Values that are sent to be ignored (RFC 8701).
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Numbers of two bytes.
fn numbers(data: &[u8]) -> Vec<u16> {
    data.chunks_exact(2).take(MOST_ENTRIES).map(|pair| crate::reader::number(pair) as u16).collect()
}

impl Hello {
    /// Reads the body of a ClientHello or ServerHello.
    pub(super) fn parse(body: &[u8], client: bool) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut hello = Self { version: reader.u16()?, random: reader.take(32)?.to_vec(), ..Self::default() };
        hello.session = reader.counted8()?.to_vec();
        if client {
            let ciphers = reader.counted16()?;
            if !ciphers.len().is_multiple_of(2) {
                return None;
            }
            hello.ciphers = numbers(ciphers);
            reader.counted8()?;
        } else {
            hello.ciphers = vec![reader.u16()?];
            reader.u8()?;
        }
        if reader.is_empty() {
            return Some(hello);
        }
        let mut extensions = Reader::new(reader.counted16()?);
        while !extensions.is_empty() && hello.extensions.len() < MOST_ENTRIES {
            let kind = extensions.u16()?;
            let data = extensions.counted16()?;
            if kind == 0 && hello.extensions.contains(&0) {
                hello.events.push("tls.multiple_sni_extensions");
            }
            hello.extensions.push(kind);
            hello.extension(kind, data, client);
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, data: &[u8], client: bool) {
        let mut reader = Reader::new(data);
        match kind {
            0 if client && !data.is_empty() => {
                let mut list = Reader::new(reader.counted16().unwrap_or_default());
                if list.u8() != Some(0) {
                    self.events.push("tls.invalid_sni_type");
                } else if let Some(name) = list.counted16() {
                    if name.is_empty() || name.len() > 255 {
                        self.events.push("tls.invalid_sni_length");
                    }
                    self.sni = name.to_vec();
                } else {
                    self.events.push("tls.invalid_sni_length");
                }
            }
            10 => self.groups = numbers(reader.counted16().unwrap_or_default()),
            11 => self.points = reader.counted8().unwrap_or_default().to_vec(),
            13 => self.signatures = numbers(reader.counted16().unwrap_or_default()),
            16 => {
                let mut list = Reader::new(reader.counted16().unwrap_or_default());
                while let Some(name) = list.counted8().filter(|_| self.alpn.len() < 64) {
                    self.alpn.push(name.to_vec());
                }
            }
            43 if client => self.versions = numbers(reader.counted8().unwrap_or_default()),
            43 => self.versions = numbers(data),
            _ => {}
        }
    }

    /// The version that counts.
    pub(super) fn real_version(&self) -> u16 {
        self.versions.iter().copied().filter(|version| !is_grease(*version)).max().unwrap_or(self.version)
    }

    /// JA3 of a ClientHello, JA3S of a ServerHello, before hashing.
    pub(super) fn ja3(&self, client: bool) -> String {
        let join = |list: &[u16]| -> String {
            let kept: Vec<String> = list.iter().filter(|value| !is_grease(**value)).map(u16::to_string).collect();
            kept.join("-")
        };
        let (ciphers, extensions) = (join(&self.ciphers), join(&self.extensions));
        if !client {
            return format!("{},{ciphers},{extensions}", self.version);
        }
        let points: Vec<String> = self.points.iter().map(u8::to_string).collect();
        format!("{},{ciphers},{extensions},{},{}", self.version, join(&self.groups), points.join("-"))
    }

    /// JA4 of a ClientHello over TCP.
    pub(super) fn ja4(&self) -> String {
        let version = match self.real_version() {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let kept = |list: &[u16]| -> Vec<u16> { list.iter().copied().filter(|value| !is_grease(*value)).collect() };
        let mut ciphers = kept(&self.ciphers);
        let mut extensions = kept(&self.extensions);
        let alpn = match self.alpn.first().map(Vec::as_slice) {
            Some([first, .., last]) | Some([first @ last])
                if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() =>
            {
                format!("{}{}", char::from(*first), char::from(*last))
            }
            Some([first, .., last]) => {
                let text = format!("{first:02x}{last:02x}");
                format!("{}{}", text.get(..1).unwrap_or("0"), text.get(3..).unwrap_or("0"))
            }
            _ => "00".into(),
        };
        let name = if self.sni.is_empty() { 'i' } else { 'd' };
        let head = format!("t{version}{name}{:02}{:02}{alpn}", ciphers.len().min(99), extensions.len().min(99));
        ciphers.sort_unstable();
        extensions.retain(|kind| !matches!(kind, 0 | 16));
        extensions.sort_unstable();
        let hexed = |list: &[u16]| list.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",");
        let hash = |text: &str| -> String {
            if text.is_empty() {
                return "000000000000".into();
            }
            hex::encode(Sha256::digest(text.as_bytes())).chars().take(12).collect()
        };
        let mut second = hexed(&extensions);
        if !self.signatures.is_empty() {
            second = format!("{second}_{}", hexed(&kept(&self.signatures)));
        }
        format!("{head}_{}_{}", hash(&hexed(&ciphers)), hash(&second))
    }
}

pub(super) fn md5_hex(text: &str) -> Vec<u8> {
    hex::encode(Md5::digest(text.as_bytes())).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 6, 0x0a, 0x0a, 0x13, 0x01, 0xc0, 0x2f, 1, 0]);
        let mut extensions = vec![0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
        extensions.extend([0, 10, 0, 4, 0, 2, 0, 29, 0, 11, 0, 2, 1, 0]);
        extensions.extend([0, 16, 0, 5, 0, 3, 2, b'h', b'2', 0, 43, 0, 3, 2, 3, 4]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let hello = Hello::parse(&body, true).unwrap();
        assert_eq!(hello.ja3(true), "771,4865-49199,0-10-11-16-43,29,0");
        assert!(hello.ja4().starts_with("t13d0205h2_"), "{}", hello.ja4());
        assert_eq!(hello.sni, b"a");
        for end in 0..body.len() {
            let _ = Hello::parse(&body[..end], true);
        }
    }
}
