//! EVE JSON, the form in which Suricata writes what it saw, so that tools that read it work with this engine too.
//!
//! Names and meaning are those of Suricata 7's user guide ("EVE JSON Format"). [`alert`] is made of an alert's ECS
//! event, by the same words for one of a capture file and one out of the lake. [`Records`] are the transactions and
//! flows that are over (`http`, `dns`, `tls`, `fileinfo`, `flow`), kept only where [`Engine::record`] asked for
//! them; what the engine does not keep (a DNS answer's data, for one) is left out, and nothing is made up.

use std::net::IpAddr;

use sakimori_model::Timestamp;
use serde_json::{Map, Value, json};

use crate::app::{Dir, DnsTx, HttpTx, Kind, TlsTx, Tx};
use crate::decode::TCP;
use crate::engine::Engine;
use crate::flow::Flow;
use crate::flow::tcp::State;
use crate::rules::buffers::Buffer;

/// Longest text of a field, in bytes.
const LONGEST: usize = 4_096;
/// Most records that are kept between two calls of [`Engine::take_records`].
const MOST: usize = 10_000;

/// Records of what is over.
#[derive(Default)]
pub(crate) struct Records {
    pub list: Vec<Value>,
    /// Records that were let go since nobody took them.
    pub lost: u64,
}

impl Engine {
    /// From now on transactions and flows that are over are kept as EVE records, for [`Engine::take_records`].
    pub fn record(&mut self) {
        self.core.records.get_or_insert_default();
    }

    /// Records since the last call, and how many were let go in between since there were too many.
    pub fn take_records(&mut self) -> (Vec<Value>, u64) {
        let records = self.core.records.as_mut();
        records.map(|all| (std::mem::take(&mut all.list), std::mem::take(&mut all.lost))).unwrap_or_default()
    }
}

/// An alert's ECS event as EVE. `None` where it is none of a network rule.
pub fn alert(event: &Value) -> Option<Value> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
    let sid: u32 = text("/rule/id")?.parse().ok()?;
    let network = event.pointer("/sakimori/network")?;
    let gid = network.get("gid").cloned().or_else(|| text("/rule/ruleset")?.parse::<u64>().ok().map(Value::from));
    let number = |path: &str| text(path).and_then(|text| text.parse::<u64>().ok());
    let blocked = event.pointer("/event/type/0").and_then(Value::as_str) == Some("denied");
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            out.insert(name.to_owned(), value);
        }
    };
    put("timestamp", text("/@timestamp").and_then(Timestamp::parse).map(time));
    put("flow_id", network.get("flow").cloned());
    put("pcap_cnt", network.get("packet").cloned());
    put("host", text("/host/name").map(Value::from));
    put("event_type", Some("alert".into()));
    put("src_ip", text("/source/ip").map(Value::from));
    put("src_port", event.pointer("/source/port").cloned());
    put("dest_ip", text("/destination/ip").map(Value::from));
    put("dest_port", event.pointer("/destination/port").cloned());
    put("proto", text("/network/transport").map(protocol));
    put("tx_id", network.get("tx").cloned());
    let about = json!({
        "action": if blocked { "blocked" } else { "allowed" },
        "gid": gid.unwrap_or_else(|| 1.into()),
        "signature_id": sid,
        "rev": number("/rule/version").unwrap_or(0),
        "signature": text("/rule/name").unwrap_or_default(),
        "category": text("/rule/category").unwrap_or_default(),
        "severity": network.get("priority").cloned().unwrap_or_else(|| 3.into()),
    });
    // Who stands behind the proxy.
    put("xff", text("/sakimori/proxy/ip").and(text("/client/ip")).map(Value::from));
    put("alert", Some(about));
    put("app_proto", text("/network/protocol").map(app));
    put("direction", network.get("direction").cloned());
    let mut http = Map::new();
    for (name, path) in [
        ("hostname", "/url/domain"),
        ("url", "/url/original"),
        ("http_user_agent", "/user_agent/original"),
        ("http_method", "/http/request/method"),
    ] {
        http.extend(text(path).map(|text| (name.to_owned(), text.into())));
    }
    let status = event.pointer("/http/response/status_code");
    http.extend(status.and_then(as_number).map(|status| ("status".to_owned(), status.into())));
    put("http", (!http.is_empty()).then(|| http.into()));
    put("payload", network.get("payload").cloned());
    put("payload_printable", network.get("payload_printable").cloned());
    Some(out.into())
}

fn as_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// `2026-01-02T03:04:05.000006+0000`.
fn time(time: Timestamp) -> Value {
    time.to_chrono().format("%Y-%m-%dT%H:%M:%S%.6f+0000").to_string().into()
}

fn protocol(name: &str) -> Value {
    match name {
        "ipv6-icmp" => "IPv6-ICMP".into(),
        other => other.to_ascii_uppercase().into(),
    }
}

/// Suricata calls HTTP/1 just `http`.
fn app(name: &str) -> Value {
    if name == "http1" { "http".into() } else { name.into() }
}

fn protocol_of(number: u8) -> Value {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "IPv6-ICMP".into(),
        132 => "SCTP".into(),
        other => other.to_string().into(),
    }
}

fn shown(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes.get(..LONGEST.min(bytes.len())).unwrap_or_default()).into_owned().into()
}

/// Puts what is not empty.
fn set(map: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    if !bytes.is_empty() {
        map.insert(name.to_owned(), shown(bytes));
    }
}

impl Records {
    fn push(&mut self, record: Value) {
        if self.list.len() < MOST {
            self.list.push(record);
        } else {
            self.lost += 1;
        }
    }

    /// A transaction is over.
    pub(crate) fn transaction(&mut self, flow: &Flow, tx: &Tx) {
        let files = |records: &mut Self, http: Option<&Map<String, Value>>| {
            for (dir, list) in [(Dir::ToServer, tx.files(Dir::ToServer)), (Dir::ToClient, tx.files(Dir::ToClient))] {
                for file in list.iter().filter(|file| file.size > 0) {
                    let mut about = Map::new();
                    set(&mut about, "filename", &file.name);
                    about.insert("magic".into(), file.magic().into());
                    about.insert("state".into(), if file.closed && !file.cut { "CLOSED" } else { "TRUNCATED" }.into());
                    for (name, length) in [("md5", 16), ("sha1", 20), ("sha256", 32)] {
                        about.extend(file.hash(length).map(|hash| (name.to_owned(), hex::encode(hash).into())));
                    }
                    about.insert("stored".into(), false.into());
                    about.insert("size".into(), file.size.into());
                    about.insert("tx_id".into(), tx.id.into());
                    // A file's sender is its source.
                    let mut record = head(flow, "fileinfo", dir == Dir::ToServer, Some(tx));
                    record.extend(http.map(|http| ("http".to_owned(), http.clone().into())));
                    record.insert("fileinfo".into(), about.into());
                    records.push(record.into());
                }
            }
        };
        match &tx.kind {
            Kind::Http(http) | Kind::Http2(http, _) => {
                let about = of_http(http, matches!(tx.kind, Kind::Http2(..)));
                files(self, Some(&about));
                let mut record = head(flow, "http", true, Some(tx));
                record.insert("http".into(), about.into());
                self.push(record.into());
            }
            Kind::Dns(dns) => {
                let mut record = head(flow, "dns", !dns.response, Some(tx));
                record.insert("dns".into(), of_dns(dns, tx.id));
                self.push(record.into());
            }
            Kind::Tls(tls) => {
                let mut record = head(flow, "tls", true, Some(tx));
                record.insert("tls".into(), of_tls(tls));
                self.push(record.into());
            }
            Kind::Smtp(_) | Kind::FtpData(_) => files(self, None),
            Kind::Ssh(_) | Kind::Ftp(_) => {}
        }
    }

    /// A flow is over, with what was still open on it.
    pub(crate) fn flow(&mut self, flow: &Flow) {
        for tx in &flow.txs.list {
            self.transaction(flow, tx);
        }
        let mut record = head(flow, "flow", true, None);
        let state = match flow.tcp.as_ref().map(|session| session.state) {
            Some(State::SynSent | State::SynRecv) => "new",
            Some(State::Closed) => "closed",
            None if !flow.both_seen() => "new",
            _ => "established",
        };
        let [to_server, to_client] = flow.packets;
        let [bytes_to_server, bytes_to_client] = flow.bytes;
        let about = json!({
            "pkts_toserver": to_server,
            "pkts_toclient": to_client,
            "bytes_toserver": bytes_to_server,
            "bytes_toclient": bytes_to_client,
            "start": time(Timestamp::from_micros(flow.began)),
            "end": time(Timestamp::from_micros(flow.last)),
            "age": flow.last.saturating_sub(flow.began).div_euclid(1_000_000),
            "state": state,
        });
        record.insert("flow".into(), about);
        self.push(record.into());
    }
}

/// What all records have. `forth`: the client is the source.
fn head(flow: &Flow, kind: &str, forth: bool, tx: Option<&Tx>) -> Map<String, Value> {
    let (mut source, mut destination) = ((flow.client, flow.client_port), (flow.server, flow.server_port));
    if !forth {
        std::mem::swap(&mut source, &mut destination);
    }
    let ports = matches!(flow.proto, TCP | crate::decode::UDP | crate::decode::SCTP);
    let mut out = Map::new();
    out.insert("timestamp".into(), time(Timestamp::from_micros(flow.last)));
    out.insert("flow_id".into(), flow.id.into());
    out.insert("event_type".into(), kind.into());
    for (ip, port, (address, number)) in
        [("src_ip", "src_port", source), ("dest_ip", "dest_port", destination)] as [(&str, &str, (IpAddr, u16)); 2]
    {
        out.insert(ip.into(), address.to_string().into());
        if ports {
            out.insert(port.into(), number.into());
        }
    }
    out.insert("proto".into(), protocol_of(flow.proto));
    out.extend(flow.app.map(|app| ("app_proto".to_owned(), self::app(app.name()))));
    out.extend(tx.map(|tx| ("tx_id".to_owned(), tx.id.into())));
    out
}

fn of_http(http: &HttpTx, second: bool) -> Map<String, Value> {
    let mut out = Map::new();
    set(&mut out, "hostname", &http.host);
    set(&mut out, "url", if http.target.is_empty() { &http.uri } else { &http.target });
    set(&mut out, "http_method", &http.method);
    for (name, header) in
        [("http_user_agent", &b"user-agent"[..]), ("http_refer", b"referer"), ("xff", b"x-forwarded-for")]
    {
        set(&mut out, name, http.request.get(header).unwrap_or_default());
    }
    set(&mut out, "http_content_type", http.response.get(b"content-type").unwrap_or_default());
    set(&mut out, "redirect", http.response.get(b"location").unwrap_or_default());
    if second {
        out.insert("version".into(), "2".into());
    } else {
        set(&mut out, "protocol", &http.protocol);
    }
    let status = String::from_utf8_lossy(&http.status).trim().parse::<u16>().ok();
    out.extend(status.map(|status| ("status".to_owned(), status.into())));
    out.insert("length".into(), http.response_body_seen.into());
    out
}

fn of_dns(dns: &DnsTx, tx: u64) -> Value {
    let mut out = Map::new();
    out.insert("version".into(), 2.into());
    out.insert("type".into(), if dns.response { "answer" } else { "query" }.into());
    out.insert("opcode".into(), dns.opcode.into());
    if let Some((name, kind)) = dns.queries.first() {
        out.insert("rrname".into(), shown(name));
        out.insert("rrtype".into(), record_type(*kind));
    }
    if dns.response {
        out.insert("qr".into(), true.into());
        out.insert("rcode".into(), response_code(dns.rcode));
        let answers: Vec<Value> = dns
            .answers
            .iter()
            .map(|(name, kind)| json!({"rrname": shown(name), "rrtype": record_type(*kind)}))
            .collect();
        if !answers.is_empty() {
            out.insert("answers".into(), answers.into());
        }
    } else {
        out.insert("tx_id".into(), tx.into());
    }
    out.into()
}

/// IANA's names of the common record types.
fn record_type(kind: u16) -> Value {
    let name = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        41 => "OPT",
        43 => "DS",
        46 => "RRSIG",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}").into(),
    };
    name.into()
}

/// RFC 1035 and RFC 6895.
fn response_code(code: u8) -> Value {
    let known = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET"];
    known.get(usize::from(code)).map_or_else(|| code.to_string().into(), |name| (*name).into())
}

fn of_tls(tls: &TlsTx) -> Value {
    let mut out = Map::new();
    let value = |buffer, dir| tls.value(buffer, dir).map(std::borrow::Cow::into_owned).unwrap_or_default();
    set(&mut out, "sni", &value(Buffer::TlsSni, Dir::ToServer));
    for (name, buffer) in [
        ("subject", Buffer::TlsSubject),
        ("issuerdn", Buffer::TlsIssuer),
        ("serial", Buffer::TlsSerial),
        ("fingerprint", Buffer::TlsFingerprint),
    ] {
        set(&mut out, name, &value(buffer, Dir::ToClient));
    }
    out.extend(tls.version_name().map(|name| ("version".to_owned(), name.into())));
    for (name, hash, string, dir) in [
        ("ja3", Buffer::Ja3Hash, Buffer::Ja3String, Dir::ToServer),
        ("ja3s", Buffer::Ja3sHash, Buffer::Ja3sString, Dir::ToClient),
    ] {
        let (hash, string) = (value(hash, dir), value(string, dir));
        if !hash.is_empty() {
            out.insert(name.into(), json!({"hash": shown(&hash), "string": shown(&string)}));
        }
    }
    set(&mut out, "ja4", &value(Buffer::Ja4Hash, Dir::ToServer));
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_out_of_the_lake_is_one_of_suricatas() {
        let event = json!({
            "@timestamp": "2026-01-02T03:04:05.000006Z", "event": {"type": ["denied"], "severity": 99},
            "rule": {"id": "9100002", "version": "3", "name": "Log4Shell", "category": "Web", "ruleset": "suricata"},
            "source": {"ip": "203.0.113.9"}, "destination": {"ip": "192.0.2.1", "port": 80},
            "client": {"ip": "203.0.113.9"}, "host": {"name": "web1"}, "network": {"transport": "tcp", "protocol": "http"},
            "url": {"original": "/x", "domain": "shop.example"}, "http": {"request": {"method": "GET"}},
            "sakimori": {"proxy": {"ip": "192.0.2.80"}, "network": {
                "gid": 1, "flow": 7, "packet": 4, "tx": 0, "priority": 1, "direction": "to_server",
                "payload": "YQ==", "payload_printable": "a"}},
        });
        let made = alert(&event).unwrap();
        let wanted = json!({
            "timestamp": "2026-01-02T03:04:05.000006+0000", "flow_id": 7, "pcap_cnt": 4, "host": "web1",
            "event_type": "alert", "src_ip": "203.0.113.9", "dest_ip": "192.0.2.1", "dest_port": 80, "proto": "TCP",
            "tx_id": 0, "xff": "203.0.113.9", "app_proto": "http", "direction": "to_server",
            "alert": {"action": "blocked", "gid": 1, "signature_id": 9_100_002, "rev": 3, "signature": "Log4Shell",
                "category": "Web", "severity": 1},
            "http": {"hostname": "shop.example", "url": "/x", "http_method": "GET"},
            "payload": "YQ==", "payload_printable": "a",
        });
        assert_eq!(made, wanted);
        assert_eq!(alert(&json!({"rule": {"id": "ssh-brute-force"}})), None);
    }

    #[test]
    fn records_that_nobody_takes_are_bounded() {
        let mut records = Records::default();
        for _ in 0..MOST + 3 {
            records.push(Value::Null);
        }
        assert_eq!((records.list.len(), records.lost), (MOST, 3));
    }
}
