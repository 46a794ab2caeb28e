//! The catalog of keywords: each word and what reads its value.
//!
//! Sticky buffers and older buffer modifiers come from the catalog of buffers, transforms from theirs.

use super::buffers::Buffer;
use super::builder::{Builder, Last, Place};
use super::model::Step;
use super::transform::Transform;
use super::{kw_app, kw_bytes, kw_content, kw_meta, kw_packet, kw_state};

/// Reads the value of a keyword.
pub(crate) type Read = fn(&mut Builder<'_, '_>, &str) -> Result<(), String>;

/// Words with their readers; an empty value is that of a word without one.
const KEYWORDS: &[(&str, Read)] = &[
    ("msg", kw_meta::msg),
    ("sid", kw_meta::sid),
    ("gid", kw_meta::gid),
    ("rev", kw_meta::rev),
    ("classtype", kw_meta::classtype),
    ("priority", kw_meta::priority),
    ("reference", kw_meta::reference),
    ("metadata", kw_meta::metadata),
    ("target", kw_meta::target),
    ("requires", kw_meta::requires),
    ("noalert", kw_meta::noalert),
    ("alert", kw_meta::alert),
    ("prefilter", kw_meta::nothing),
    ("config", kw_meta::nothing),
    ("logto", kw_meta::nothing),
    ("rawbytes", kw_meta::nothing),
    ("replace", kw_meta::replace),
    ("content", kw_content::content),
    ("uricontent", kw_content::uricontent),
    ("nocase", kw_content::nocase),
    ("depth", kw_content::depth),
    ("offset", kw_content::offset),
    ("distance", kw_content::distance),
    ("within", kw_content::within),
    ("startswith", kw_content::startswith),
    ("endswith", kw_content::endswith),
    ("fast_pattern", kw_content::fast_pattern),
    ("pcre", kw_content::pcre),
    ("bsize", kw_content::bsize),
    ("absent", kw_content::absent),
    ("urilen", kw_content::urilen),
    ("isdataat", kw_bytes::isdataat),
    ("byte_test", kw_bytes::byte_test),
    ("byte_jump", kw_bytes::byte_jump),
    ("byte_extract", kw_bytes::byte_extract),
    ("byte_math", kw_bytes::byte_math),
    ("base64_decode", kw_bytes::base64_decode),
    ("base64_data", kw_bytes::base64_data),
    ("pkt_data", kw_content::pkt_data),
    ("dataset", kw_state::dataset),
    ("datarep", kw_state::datarep),
    ("flow", kw_state::flow),
    ("flowbits", kw_state::flowbits),
    ("flowint", kw_state::flowint),
    ("xbits", kw_state::xbits),
    ("hostbits", kw_state::hostbits),
    ("flow.age", kw_state::flow_age),
    ("flow.pkts", kw_state::flow_pkts),
    ("flow.bytes", kw_state::flow_bytes),
    ("flow.pkts_toserver", kw_state::flow_pkts_server),
    ("flow.pkts_toclient", kw_state::flow_pkts_client),
    ("flow.bytes_toserver", kw_state::flow_bytes_server),
    ("flow.bytes_toclient", kw_state::flow_bytes_client),
    ("threshold", kw_state::threshold),
    ("detection_filter", kw_state::detection_filter),
    ("tag", kw_state::tag),
    ("stream_size", kw_state::stream_size),
    ("iprep", kw_state::iprep),
    ("ttl", kw_packet::ttl),
    ("tos", kw_packet::tos),
    ("id", kw_packet::id),
    ("ip_proto", kw_packet::ip_proto),
    ("sameip", kw_packet::sameip),
    ("ipopts", kw_packet::ipopts),
    ("fragbits", kw_packet::fragbits),
    ("fragoffset", kw_packet::fragoffset),
    ("seq", kw_packet::seq),
    ("tcp.seq", kw_packet::seq),
    ("ack", kw_packet::ack),
    ("tcp.ack", kw_packet::ack),
    ("window", kw_packet::window),
    ("tcp.window", kw_packet::window),
    ("flags", kw_packet::flags),
    ("tcp.flags", kw_packet::flags),
    ("tcp.mss", kw_packet::mss),
    ("itype", kw_packet::itype),
    ("icode", kw_packet::icode),
    ("icmp_id", kw_packet::icmp_id),
    ("icmp_seq", kw_packet::icmp_seq),
    ("icmpv6.mtu", kw_packet::icmp6_mtu),
    ("dsize", kw_packet::dsize),
    ("vlan.id", kw_packet::vlan_id),
    ("decode-event", kw_packet::decode_event),
    ("stream-event", kw_packet::stream_event),
    ("engine-event", kw_packet::engine_event),
    ("ftpbounce", kw_packet::ftpbounce),
    ("app-layer-protocol", kw_app::protocol),
    ("app-layer-event", kw_app::event),
    ("frame", kw_app::frame),
    ("dns.opcode", kw_app::dns_opcode),
    ("dns.rrtype", kw_app::dns_rrtype),
    ("dns.rcode", kw_app::dns_rcode),
    ("tls.version", kw_app::tls_version),
    ("ssl_version", kw_app::ssl_version),
    ("ssl_state", kw_app::ssl_state),
    ("tls.cert_chain_len", kw_app::cert_chain),
    ("tls_cert_notbefore", kw_app::not_before),
    ("tls_cert_notafter", kw_app::not_after),
    ("tls_cert_expired", kw_app::expired),
    ("tls_cert_valid", kw_app::valid),
    ("tls.subject", kw_app::tls_subject),
    ("tls.issuerdn", kw_app::tls_issuer),
    ("tls.fingerprint", kw_app::tls_fingerprint),
    ("ssh.protoversion", kw_app::ssh_protoversion),
    ("ssh.softwareversion", kw_app::ssh_softwareversion),
    ("http2.frametype", kw_app::http2_frame_type),
    ("http2.errorcode", kw_app::http2_error_code),
    ("http2.priority", kw_app::http2_priority),
    ("http2.window", kw_app::http2_window),
    ("http2.size_update", kw_app::http2_size_update),
    ("http2.settings", kw_app::http2_settings),
    ("filename", kw_app::filename),
    ("fileext", kw_app::fileext),
    ("filemagic", kw_app::filemagic),
    ("filestore", kw_app::filestore),
    ("filesize", kw_app::filesize),
    ("filemd5", kw_app::filemd5),
    ("filesha1", kw_app::filesha1),
    ("filesha256", kw_app::filesha256),
    ("ftpdata_command", kw_app::ftpdata_command),
];

/// Reads one option.
pub(crate) fn option(builder: &mut Builder<'_, '_>, name: &str, value: Option<&str>) -> Result<(), String> {
    if let Some((_, read)) = KEYWORDS.iter().find(|(word, _)| *word == name) {
        return read(builder, value.unwrap_or_default());
    }
    if let Some(of) = name.strip_suffix("-csum").map(|_| name) {
        return kw_packet::csum(builder, of, value.unwrap_or_default());
    }
    if let Some(buffer) = Buffer::sticky(name) {
        builder.place = Place::Sticky { buffer, transforms: Vec::new(), opened: false };
        return Ok(());
    }
    if let Some(buffer) = Buffer::modifier(name) {
        return modify(builder, buffer);
    }
    if let Some(transform) = Transform::parse(name, value) {
        return match &mut builder.place {
            Place::Sticky { transforms, opened: false, .. } => {
                transforms.push(transform?);
                Ok(())
            }
            _ => Err("a transform stands behind the name of a buffer".into()),
        };
    }
    Err(format!("keyword '{name}' is not known"))
}

/// An older modifier: the content before it is of that buffer.
fn modify(builder: &mut Builder<'_, '_>, buffer: Buffer) -> Result<(), String> {
    if builder.last != Last::Payload || !matches!(builder.place, Place::Payload) {
        return Err("the modifier follows no content of the payload".into());
    }
    let at = builder.payload.iter().rposition(|step| matches!(step, Step::Content(_)));
    let step = builder.payload.remove(at.ok_or("there is no content before it")?);
    let list = builder.list_for(buffer)?;
    builder.last = Last::Buffer(list);
    builder.list(Last::Buffer(list))?.push(step);
    Ok(())
}

/// How many words are known, with buffers, modifiers and transforms.
#[cfg(test)]
pub(crate) fn is_known(name: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.0 == name) || Buffer::sticky(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_twice() {
        for (at, (word, _)) in KEYWORDS.iter().enumerate() {
            assert!(KEYWORDS.iter().skip(at + 1).all(|other| other.0 != *word), "{word}");
            assert!(Buffer::sticky(word).is_none(), "{word}");
        }
        assert!(is_known("file.data") && is_known("content"));
    }
}
