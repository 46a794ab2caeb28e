//! Transforms: what is done to a buffer before it is looked at.

use std::borrow::Cow;

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// One step from bytes to bytes.
#[derive(Clone, Debug)]
pub(crate) enum Transform {
    StripWhitespace,
    CompressWhitespace,
    ToLowercase,
    ToUppercase,
    ToMd5,
    ToSha1,
    ToSha256,
    UrlDecode,
    DotPrefix,
    Pcre(regex::bytes::Regex),
    Xor(Vec<u8>),
    HeaderLowercase,
    StripPseudoHeaders,
}

impl PartialEq for Transform {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pcre(one), Self::Pcre(two)) => one.as_str() == two.as_str(),
            (Self::Xor(one), Self::Xor(two)) => one == two,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Transform {
    /// A transform keyword; `None` if the word is none.
    pub(crate) fn parse(name: &str, value: Option<&str>) -> Option<Result<Self, String>> {
        Some(Ok(match (name, value) {
            ("strip_whitespace", None) => Self::StripWhitespace,
            ("compress_whitespace", None) => Self::CompressWhitespace,
            ("to_lowercase", None) => Self::ToLowercase,
            ("to_uppercase", None) => Self::ToUppercase,
            ("to_md5", None) => Self::ToMd5,
            ("to_sha1", None) => Self::ToSha1,
            ("to_sha256", None) => Self::ToSha256,
            ("url_decode", None) => Self::UrlDecode,
            ("dotprefix", None) => Self::DotPrefix,
            ("header_lowercase", None) => Self::HeaderLowercase,
            ("strip_pseudo_headers", None) => Self::StripPseudoHeaders,
            ("pcrexform", Some(value)) => {
                let inside = value.trim().trim_matches('"');
                return Some(super::pcre::plain(inside).and_then(|regex| {
                    let groups = regex.captures_len();
                    if groups == 2 { Ok(Self::Pcre(regex)) } else { Err("pcrexform takes one group".into()) }
                }));
            }
            ("xor", Some(value)) => {
                let key = hex::decode(value.trim().trim_matches('"')).ok().filter(|key| !key.is_empty());
                return Some(key.map(Self::Xor).ok_or_else(|| "xor takes hexadecimal bytes".into()));
            }
            _ => return None,
        }))
    }

    /// Adds the bytes after the transform.
    fn write(&self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::StripWhitespace => out.extend(data.iter().copied().filter(|byte| !is_space(*byte))),
            Self::CompressWhitespace => {
                let mut before = false;
                for byte in data {
                    let space = is_space(*byte);
                    if !(space && before) {
                        out.push(*byte);
                    }
                    before = space;
                }
            }
            Self::ToLowercase => out.extend(data.iter().map(u8::to_ascii_lowercase)),
            Self::ToUppercase => out.extend(data.iter().map(u8::to_ascii_uppercase)),
            Self::ToMd5 => out.extend(Md5::digest(data)),
            Self::ToSha1 => out.extend(Sha1::digest(data)),
            Self::ToSha256 => out.extend(Sha256::digest(data)),
            Self::UrlDecode => url_decode(data, out),
            Self::DotPrefix => {
                out.push(b'.');
                out.extend_from_slice(data);
            }
            Self::Pcre(regex) => {
                // No match leaves the bytes as they are.
                let found = regex.captures(data).and_then(|found| found.get(1).map(|group| group.as_bytes()));
                out.extend_from_slice(found.unwrap_or(data));
            }
            Self::Xor(key) => out.extend(data.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key)),
            Self::HeaderLowercase => {
                let mut name = true;
                out.extend(data.iter().map(|byte| {
                    let out = if name { byte.to_ascii_lowercase() } else { *byte };
                    name = match *byte {
                        b':' => false,
                        b'\n' => true,
                        _ => name,
                    };
                    out
                }));
            }
            Self::StripPseudoHeaders => {
                for line in data.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b":")) {
                    out.extend_from_slice(line);
                }
            }
        }
    }
}

/// Applies transforms in order.
pub(crate) fn apply_all<'a>(transforms: &[Transform], data: &'a [u8]) -> Cow<'a, [u8]> {
    if transforms.is_empty() {
        return Cow::Borrowed(data);
    }
    let mut out = Vec::new();
    append(transforms, data, &mut out, &mut [Vec::new(), Vec::new()]);
    Cow::Owned(out)
}

/// Adds what transforms in order make of the bytes; what lies between two of them is in the spare memory.
pub(crate) fn append(transforms: &[Transform], data: &[u8], out: &mut Vec<u8>, spare: &mut [Vec<u8>; 2]) {
    let Some((last, before)) = transforms.split_last() else {
        out.extend_from_slice(data);
        return;
    };
    let [from, to] = spare;
    for (at, transform) in before.iter().enumerate() {
        to.clear();
        transform.write(if at == 0 { data } else { from }, to);
        std::mem::swap(from, to);
    }
    last.write(if before.is_empty() { data } else { from }, out);
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn url_decode(data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len());
    let mut rest = data;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => match (char::from(*high).to_digit(16), char::from(*low).to_digit(16)) {
                (Some(high), Some(low)) => {
                    out.push((high * 16 + low) as u8);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, value: Option<&str>, data: &[u8]) -> Vec<u8> {
        apply_all(&[Transform::parse(name, value).unwrap().unwrap()], data).into_owned()
    }

    #[test]
    fn each_transform() {
        assert_eq!(run("strip_whitespace", None, b" a\tb\r\n"), b"ab");
        assert_eq!(run("compress_whitespace", None, b"a  b\r\nc"), b"a b\rc");
        assert_eq!(run("url_decode", None, b"a%2fb+c%zz%4"), b"a/b c%zz%4");
        assert_eq!(run("dotprefix", None, b"a.b"), b".a.b");
        assert_eq!(run("pcrexform", Some(r#""/get\?d=(.*)""#), b"/get?d=x"), b"x");
        assert_eq!(run("xor", Some("\"01ff\""), &[1, 1, 1]), [0, 0xfe, 0]);
        assert_eq!(run("header_lowercase", None, b"A-B: C\r\nD: E"), b"a-b: C\r\nd: E");
        assert_eq!(run("to_md5", None, b"").len(), 16);
        assert_eq!(run("strip_pseudo_headers", None, b":a: b\r\nc: d\r\n"), b"c: d\r\n");
        assert!(Transform::parse("nothing", None).is_none());
    }

    #[test]
    fn one_after_the_other() {
        let chain = |names: &[&str]| names.iter().map(|name| Transform::parse(name, None).unwrap().unwrap()).collect();
        let some: Vec<Transform> = chain(&["url_decode", "to_lowercase", "compress_whitespace", "dotprefix"]);
        let mut out = b"before ".to_vec();
        let mut spare = [Vec::new(), b"left over".to_vec()];
        append(&some, b"A%20%20B", &mut out, &mut spare);
        append(&some[..2], b"%41", &mut out, &mut spare);
        append(&[], b"C", &mut out, &mut spare);
        assert_eq!(out, b"before .a baC");
    }
}
