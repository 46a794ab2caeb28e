//! Keywords of application protocols that are no buffers, and of files.

use std::sync::Arc;

use super::app_tests::AppTest;
use super::buffers::Buffer;
use super::builder::{Builder, Last, Place};
use super::content::Content;
use super::model::Step;
use super::number::Compare;
use super::packet_tests::PacketTest;
use super::sets::{self, FileHashes};
use crate::app::AppProto;

type Done = Result<(), String>;

pub(crate) fn protocol(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.split(',').next().unwrap_or_default().trim();
    let (negated, name) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let app = AppProto::parse(name).ok_or_else(|| format!("protocol '{name}' is not known"))?;
    builder.packet.push(PacketTest::AppProtocol { app, negated });
    Ok(())
}

pub(crate) fn event(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.trim();
    let Some((proto, _)) = text.split_once('.') else {
        builder.packet.push(PacketTest::Event(text.to_owned()));
        return Ok(());
    };
    let app = AppProto::parse(proto).ok_or_else(|| format!("protocol '{proto}' is not known"))?;
    if builder.proto.app.is_none() {
        builder.proto.app = Some(app);
    }
    builder.app_tests.push(AppTest::Event { name: text.to_owned() });
    Ok(())
}

pub(crate) fn frame(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.trim();
    let (proto, kind) = text.split_once('.').unwrap_or(("", text));
    let http = matches!(proto, "http1" | "http")
        || (proto.is_empty() && builder.proto.app.is_some_and(|app| app.includes(AppProto::Http1)));
    let buffer = match kind {
        "request" if http => Buffer::FrameHttpRequest,
        "response" if http => Buffer::FrameHttpResponse,
        _ => return Err(format!("frame '{text}' is not known")),
    };
    builder.place = Place::Sticky { buffer, transforms: Vec::new(), opened: false };
    Ok(())
}

fn push(builder: &mut Builder<'_, '_>, test: AppTest) -> Done {
    builder.app_tests.push(test);
    Ok(())
}

/// A number, or the name of one.
fn named<N: std::str::FromStr + PartialOrd + Copy>(text: &str, names: &[(&str, N)]) -> Result<Compare<N>, String> {
    let (negated, name) = text.trim().strip_prefix('!').map_or((false, text.trim()), |rest| (true, rest));
    match names.iter().find(|known| known.0.eq_ignore_ascii_case(name)) {
        Some((_, value)) if negated => Ok(Compare::Not(*value)),
        Some((_, value)) => Ok(Compare::Equal(*value)),
        None => Compare::parse(text),
    }
}

pub(crate) fn dns_opcode(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::DnsOpcode(Compare::parse(text)?))
}

pub(crate) fn dns_rrtype(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let names = [
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("ANY", 255),
    ];
    push(builder, AppTest::DnsRrtype(named(text, &names)?))
}

pub(crate) fn dns_rcode(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let names = [("NOERROR", 0), ("FORMERR", 1), ("SERVFAIL", 2), ("NXDOMAIN", 3), ("NOTIMP", 4), ("REFUSED", 5)];
    push(builder, AppTest::DnsRcode(named(text, &names)?))
}

pub(crate) fn tls_version(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let version = match text.trim().trim_matches('"') {
        "1.0" => 0x0301,
        "1.1" => 0x0302,
        "1.2" => 0x0303,
        "1.3" => 0x0304,
        other => {
            let hex = other.strip_prefix("0x").and_then(|hex| u16::from_str_radix(hex, 16).ok());
            hex.ok_or_else(|| format!("'{other}' is no version of TLS"))?
        }
    };
    push(builder, AppTest::TlsVersion(vec![version]))
}

pub(crate) fn ssl_version(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (negated, text) = text.trim().strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let mut versions = Vec::new();
    for word in text.split(',').map(|word| word.trim().trim_start_matches('!')) {
        versions.push(match word.to_ascii_lowercase().as_str() {
            "sslv2" => 0x0002,
            "sslv3" => 0x0300,
            "tls1.0" => 0x0301,
            "tls1.1" => 0x0302,
            "tls1.2" => 0x0303,
            "tls1.3" => 0x0304,
            other => return Err(format!("'{other}' is no version of SSL")),
        });
    }
    if negated {
        versions = [0x0002, 0x0300, 0x0301, 0x0302, 0x0303, 0x0304]
            .into_iter()
            .filter(|known| !versions.contains(known))
            .collect();
    }
    push(builder, AppTest::TlsVersion(versions))
}

pub(crate) fn ssl_state(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut states = Vec::new();
    for word in text.split([',', '|']).map(str::trim) {
        let (negated, name) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        let state = match name {
            "client_hello" => 1,
            "server_hello" => 2,
            "client_keyx" => 4,
            "server_keyx" => 8,
            "unknown" => 16,
            other => return Err(format!("'{other}' is no state of SSL")),
        };
        states.push((state, negated));
    }
    push(builder, AppTest::TlsState(states))
}

pub(crate) fn cert_chain(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::TlsCertCount(Compare::parse(text)?))
}

/// A date, year first, whatever of it is given.
fn date(text: &str) -> Result<i64, String> {
    let digits: Vec<i64> = text.trim().split(['-', 'T', ' ', ':']).map(|part| part.parse().unwrap_or(-1)).collect();
    let part = |at: usize, least: i64| digits.get(at).copied().unwrap_or(least);
    if digits.iter().any(|digit| *digit < 0) || digits.len() > 6 {
        return Err(format!("'{text}' is no date"));
    }
    // Days since 1970 by the civil calendar, the year beginning in March.
    let (year, month, day) = (part(0, 1970), part(1, 1), part(2, 1));
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Ok(days * 86_400 + part(3, 0) * 3600 + part(4, 0) * 60 + part(5, 0))
}

fn date_compare(text: &str) -> Result<Compare<i64>, String> {
    let text = text.trim();
    if let Some((low, high)) = text.split_once("<>") {
        return Ok(Compare::Between(date(low)?, date(high)?));
    }
    match (text.strip_prefix('<'), text.strip_prefix('>')) {
        (Some(rest), _) => Ok(Compare::Less(date(rest)?)),
        (_, Some(rest)) => Ok(Compare::Greater(date(rest)?)),
        _ => Ok(Compare::Equal(date(text)?)),
    }
}

pub(crate) fn not_before(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::TlsNotBefore(date_compare(text)?))
}

pub(crate) fn not_after(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::TlsNotAfter(date_compare(text)?))
}

pub(crate) fn expired(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    push(builder, AppTest::TlsExpired(true))
}

pub(crate) fn valid(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    push(builder, AppTest::TlsExpired(false))
}

/// An older word with its own value: a content on a buffer.
fn content_of(builder: &mut Builder<'_, '_>, buffer: Buffer, text: &str, nocase: bool) -> Result<Content, String> {
    let (negated, text) = super::syntax::quoted(text)?;
    let mut content = Content::new(text.replace('\\', "").into_bytes(), negated);
    content.nocase = nocase;
    let _ = (builder, buffer);
    Ok(content)
}

fn push_content(builder: &mut Builder<'_, '_>, buffer: Buffer, content: Content) -> Done {
    let list = builder.open(buffer, Vec::new())?;
    builder.list(Last::Buffer(list))?.push(Step::Content(Box::new(content)));
    Ok(())
}

pub(crate) fn tls_subject(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let content = content_of(builder, Buffer::TlsSubject, text, false)?;
    push_content(builder, Buffer::TlsSubject, content)
}

pub(crate) fn tls_issuer(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let content = content_of(builder, Buffer::TlsIssuer, text, false)?;
    push_content(builder, Buffer::TlsIssuer, content)
}

pub(crate) fn tls_fingerprint(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let content = content_of(builder, Buffer::TlsFingerprint, text, true)?;
    push_content(builder, Buffer::TlsFingerprint, content)
}

pub(crate) fn ssh_protoversion(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut content = Content::new(text.trim().trim_end_matches("_compat").as_bytes().to_vec(), false);
    content.starts = true;
    push_content(builder, Buffer::SshProto, content)
}

pub(crate) fn ssh_softwareversion(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let content = content_of(builder, Buffer::SshSoftware, text, false)?;
    push_content(builder, Buffer::SshSoftware, content)
}

pub(crate) fn http2_frame_type(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let names = [
        "data",
        "headers",
        "priority",
        "rststream",
        "settings",
        "pushpromise",
        "ping",
        "goaway",
        "windowupdate",
        "continuation",
    ];
    let text = text.trim().to_ascii_lowercase().replace('_', "");
    let number = names.iter().position(|name| *name == text).map(|at| at as u8).or_else(|| text.parse().ok());
    push(builder, AppTest::Http2FrameType(number.ok_or_else(|| format!("'{text}' is no type of frame"))?))
}

pub(crate) fn http2_error_code(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let text = text.trim();
    let number =
        NAMES.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| at as u32).or_else(|| text.parse().ok());
    push(builder, AppTest::Http2ErrorCode(number.ok_or_else(|| format!("'{text}' is no error code"))?))
}

pub(crate) fn http2_priority(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::Http2Priority(Compare::parse(text)?))
}

pub(crate) fn http2_window(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::Http2Window(Compare::parse(text)?))
}

pub(crate) fn http2_size_update(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::Http2SizeUpdate(Compare::parse(text)?))
}

pub(crate) fn http2_settings(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::Http2Settings(text.trim().to_owned()))
}

pub(crate) fn filename(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut content = content_of(builder, Buffer::FileName, text, true)?;
    content.nocase = true;
    push_content(builder, Buffer::FileName, content)
}

pub(crate) fn fileext(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (negated, text) = super::syntax::quoted(text)?;
    let mut content = Content::new(format!(".{text}").into_bytes(), negated);
    content.nocase = true;
    content.ends = true;
    push_content(builder, Buffer::FileName, content)
}

pub(crate) fn filemagic(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let content = content_of(builder, Buffer::FileMagic, text, true)?;
    push_content(builder, Buffer::FileMagic, content)
}

fn file_step(builder: &mut Builder<'_, '_>, step: Step) -> Done {
    let list = builder.list_for(Buffer::FileInfo)?;
    builder.list(Last::Buffer(list))?.push(step);
    Ok(())
}

pub(crate) fn filestore(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    file_step(builder, Step::FileStore)
}

pub(crate) fn filesize(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    file_step(builder, Step::FileSize(Compare::parse(text)?))
}

fn hashes(builder: &mut Builder<'_, '_>, text: &str, length: usize) -> Done {
    let (negated, path) = text.trim().strip_prefix('!').map_or((false, text.trim()), |rest| (true, rest));
    let file = builder.shared.file(path).ok_or_else(|| format!("cannot read the file '{path}'"))?;
    let hashes = Arc::new(sets::hashes(&file, length));
    file_step(builder, Step::FileHash(FileHashes { negated, hashes, length }))
}

pub(crate) fn filemd5(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    hashes(builder, text, 16)
}

pub(crate) fn filesha1(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    hashes(builder, text, 20)
}

pub(crate) fn filesha256(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    hashes(builder, text, 32)
}

pub(crate) fn ftpdata_command(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    push(builder, AppTest::FtpDataCommand(text.trim().to_ascii_uppercase()))
}
