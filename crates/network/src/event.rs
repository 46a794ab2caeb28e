//! An alert as an ECS event, and what of the request it carries.

use base64::Engine as _;
use sakimori_model::{Event, Timestamp, field};
use serde_json::json;

use crate::alert::{Alert, HttpSummary};
use crate::app::Kind;
use crate::app::http1::Headers;
use crate::flow::Flow;

/// Longest text of a request that an alert carries, in bytes.
const LONGEST: usize = 2_048;

/// The request of the transaction, or of the flow's last.
pub(crate) fn http_summary(flow: &Flow, tx: Option<u64>) -> Option<HttpSummary> {
    let tx = flow.txs.list.iter().rev().find(|one| tx.is_none_or(|id| one.id == id))?;
    let (Kind::Http(http) | Kind::Http2(http, _)) = &tx.kind else { return None };
    let text =
        |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..LONGEST.min(bytes.len())).unwrap_or_default()).into_owned();
    let header = |name: &[u8]| http.request.get(name).map(text).unwrap_or_default();
    Some(HttpSummary {
        method: text(&http.method),
        host: text(&http.host),
        // As it was sent, so that it is what an access log says.
        uri: text(if http.target.is_empty() { &http.uri } else { &http.target }),
        user_agent: header(b"user-agent"),
        status: text(&http.status),
        forwarded_for: forwarded_for(&http.request),
    })
}

/// The list of `X-Forwarded-For`, of all headers of this name in their order, and of a long one its end: each proxy writes to the
/// right, so what a client sends to make it long is what goes.
fn forwarded_for(headers: &Headers) -> String {
    let mut all: Vec<u8> = Vec::new();
    for value in headers.all(b"x-forwarded-for") {
        if !all.is_empty() {
            all.extend_from_slice(b", ");
        }
        all.extend_from_slice(value);
    }
    let Some(cut) = all.len().checked_sub(LONGEST).filter(|cut| *cut > 0) else {
        return String::from_utf8_lossy(&all).into_owned();
    };
    // The entry that is cut through could read as another address.
    let kept = all.get(cut..).unwrap_or_default();
    let whole = kept.iter().position(|byte| *byte == b',').and_then(|comma| kept.get(comma + 1..)).unwrap_or_default();
    String::from_utf8_lossy(whole).into_owned()
}

impl Alert {
    /// The event, in ECS.
    pub fn event(&self) -> Event {
        let mut event = Event::new();
        event.set(field::TIMESTAMP, Timestamp::from_micros(self.time));
        let rule = &self.rule;
        let (client, server) = if self.to_server {
            ((self.src, self.sport), (self.dst, self.dport))
        } else {
            ((self.dst, self.dport), (self.src, self.sport))
        };
        let printable: String = self
            .payload
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        let outcome = if self.blocked { "denied" } else { "allowed" };
        for (name, value) in [
            ("event.kind", json!("alert")),
            ("event.category", json!(["network", "intrusion_detection"])),
            ("event.type", json!([outcome])),
            ("event.module", json!("network")),
            ("event.action", json!(if self.blocked { "drop" } else { "alert" })),
            ("event.severity", json!(rule.priority)),
            ("rule.id", json!(rule.sid.to_string())),
            ("rule.version", json!(rule.rev.to_string())),
            ("rule.name", json!(rule.msg)),
            ("rule.category", json!(rule.class)),
            ("rule.ruleset", json!(rule.gid.to_string())),
            ("source.ip", json!(self.src.to_string())),
            ("source.port", json!(self.sport)),
            ("destination.ip", json!(self.dst.to_string())),
            ("destination.port", json!(self.dport)),
            ("client.ip", json!(client.0.to_string())),
            ("client.port", json!(client.1)),
            ("server.ip", json!(server.0.to_string())),
            ("server.port", json!(server.1)),
            ("network.transport", json!(transport(self.proto))),
            ("network.protocol", json!(self.app.map(crate::app::AppProto::name))),
            ("network.direction", json!(if self.to_server { "inbound" } else { "outbound" })),
            ("sakimori.network.priority", json!(rule.priority)),
            ("sakimori.network.direction", json!(if self.to_server { "to_server" } else { "to_client" })),
            ("sakimori.network.packet", json!(self.packet)),
            ("sakimori.network.flow", json!(self.flow)),
            ("sakimori.network.tx", json!(self.tx)),
            ("sakimori.network.payload", json!(base64::engine::general_purpose::STANDARD.encode(&self.payload))),
            ("sakimori.network.payload_printable", json!(printable)),
        ] {
            // What the engine tells of itself is about nobody.
            let ends = ["source.", "destination.", "client.", "server."];
            let nobody = self.src.is_unspecified() && ends.iter().any(|end| name.starts_with(end));
            if !value.is_null() && !nobody {
                event.set_path(name, value);
            }
        }
        if let Some(http) = &self.http {
            for (name, value) in [
                ("http.request.method", &http.method),
                ("url.domain", &http.host),
                ("url.original", &http.uri),
                ("user_agent.original", &http.user_agent),
                ("http.response.status_code", &http.status),
                ("sakimori.network.forwarded_for", &http.forwarded_for),
            ] {
                if !value.is_empty() {
                    event.set_path(name, json!(value));
                }
            }
        }
        event
    }
}

fn transport(proto: u8) -> String {
    match proto {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> String {
        let mut headers = Headers::default();
        for value in values {
            headers.push(b"X-Forwarded-For".to_vec(), value.as_bytes().to_vec());
        }
        forwarded_for(&headers)
    }

    #[test]
    fn the_list_that_proxies_wrote_is_read_to_its_end_however_long_a_client_makes_it() {
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["198.51.100.1", "203.0.113.7"]), "198.51.100.1, 203.0.113.7", "the header twice is one list");
        // What a client sent is cut and not what the proxy wrote behind it; nor is an entry cut into another address.
        for length in 0..40 {
            let forged = format!("{}{}", "x".repeat(length), "198.51.100.1, ".repeat(1_000));
            let list = of(&[&format!("{forged}203.0.113.7")]);
            assert!(list.len() <= LONGEST && list.ends_with(" 203.0.113.7"), "{length}");
            assert!(
                list.split(',').all(|one| ["198.51.100.1", "203.0.113.7"].contains(&one.trim())),
                "{length}: {list}"
            );
        }
        assert_eq!(of(&[&"1".repeat(10_000)]), "", "one entry that is too long is none");
    }
}
