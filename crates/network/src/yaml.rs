//! What of a `suricata.yaml` has a meaning here.
//!
//! The file and single `key=value` pairs are one tree of dotted keys; each known key changes a setting, the others
//! are listed. Files that it names are only named: the caller reads them.

use yaml_serde::Value;

use crate::decode::Overlap;
use crate::flow::{ExceptionPolicy, Urgent};
use crate::rules::{Action, Network};
use crate::settings::Settings;

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read the configuration: {0}")]
    Syntax(String),
}

/// What a configuration gave besides settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Keys that have no meaning here.
    pub unused: Vec<String>,
    /// Paths of the threshold and classification files, if any.
    pub threshold_file: Option<String>,
    pub classification_file: Option<String>,
    pub rule_path: Option<String>,
    pub rule_files: Vec<String>,
    pub reputation_categories: Option<String>,
    pub reputation_path: Option<String>,
    pub reputation_files: Vec<String>,
}

impl Settings {
    /// Takes a `suricata.yaml` and pairs that go over it.
    pub fn apply_yaml(&mut self, text: &str, set: &[(String, String)]) -> Result<Given, SettingsError> {
        let body: String = text.lines().filter(|line| !line.starts_with('%')).collect::<Vec<_>>().join("\n");
        let body = body.trim_start().strip_prefix("---").unwrap_or(&body).to_owned();
        let tree: Value = if body.trim().is_empty() {
            Value::Null
        } else {
            yaml_serde::from_str(&body).map_err(|error| SettingsError::Syntax(error.to_string()))?
        };
        let mut given = Given::default();
        let mut flat = Vec::new();
        flatten("", &tree, 0, &mut flat);
        for (key, value) in flat.iter().chain(set) {
            self.key(key, value.trim(), &mut given);
        }
        Ok(given)
    }

    fn key(&mut self, key: &str, value: &str, given: &mut Given) {
        if let Some(name) = key.strip_prefix("vars.address-groups.") {
            self.load.variables.addresses.insert(name.to_owned(), value.to_owned());
            return;
        }
        if let Some(name) = key.strip_prefix("vars.port-groups.") {
            self.load.variables.ports.insert(name.to_owned(), value.to_owned());
            return;
        }
        if let Some(name) = key.strip_prefix("host-os-policy.") {
            return self.host_policy(name.split('.').next().unwrap_or(name), value, given);
        }
        if !self.stream_key(key, value) && !self.app_key(key, value) && !self.other_key(key, value, given) {
            given.unused.push(key.to_owned());
        }
    }

    fn host_policy(&mut self, name: &str, value: &str, given: &mut Given) {
        let policy = match name {
            "bsd" | "irix" | "macos" => Overlap::Bsd,
            "bsd-right" | "hpux10" => Overlap::BsdRight,
            "linux" | "hpux11" => Overlap::Linux,
            "old-linux" => Overlap::OldLinux,
            "old-solaris" | "solaris" => Overlap::Solaris,
            "windows" | "windows2k3" => Overlap::Windows,
            "vista" | "first" => Overlap::First,
            "last" => Overlap::Last,
            _ => return given.unused.push(format!("host-os-policy.{name}")),
        };
        let inside = value.trim().trim_start_matches('[').trim_end_matches(']');
        for network in inside.split(',').filter_map(|text| Network::parse(text.trim().trim_matches('"'))) {
            self.stream.hosts.push((network, policy));
            self.defrag.hosts.push((network, policy));
        }
    }

    fn stream_key(&mut self, key: &str, value: &str) -> bool {
        let stream = &mut self.stream;
        match key {
            "stream.midstream" => stream.midstream = yes(value),
            "stream.midstream-policy" => stream.midstream_policy = policy(value),
            "stream.async-oneside" => stream.async_one_side = yes(value),
            "stream.inline" => match value {
                "auto" => {}
                other => stream.inline = yes(other),
            },
            "stream.checksum-validation" => stream.checksums = yes(value),
            "stream.reassembly.depth" => stream.depth = size(value).unwrap_or(stream.depth),
            "stream.reassembly.toserver-chunk-size" => stream.to_server_chunk = size(value).unwrap_or(2560),
            "stream.reassembly.toclient-chunk-size" => stream.to_client_chunk = size(value).unwrap_or(2560),
            "stream.reassembly.urgent.policy" => {
                stream.urgent = match value {
                    "inline" => Urgent::Inline,
                    "drop" => Urgent::Drop,
                    "gap" => Urgent::Gap,
                    _ => Urgent::Oob,
                };
            }
            "app-layer.error-policy" => stream.app_error_policy = policy(value),
            "exception-policy" => {
                let given = policy(value);
                for slot in [&mut stream.midstream_policy, &mut stream.app_error_policy] {
                    if *slot == ExceptionPolicy::Auto {
                        *slot = given;
                    }
                }
            }
            "defrag.timeout" => self.defrag.timeout = size(value).map_or(self.defrag.timeout, |s| s as i64 * 1_000_000),
            "defrag.max-frags" => {
                self.defrag.fragments = size(value).map_or(1024, |count| (count as usize).min(65_535))
            }
            "defrag.trackers" => self.defrag.trackers = size(value).map_or(65_535, |count| count as usize),
            "defrag.memcap" => self.defrag.memory = size(value).map_or(32 << 20, |count| count as usize),
            _ => return false,
        }
        true
    }

    fn app_key(&mut self, key: &str, value: &str) -> bool {
        let http = &mut self.app.http;
        let Some(key) = key.strip_prefix("app-layer.protocols.") else { return false };
        match key {
            "http.libhtp.default-config.request-body-limit" => {
                http.request_body_limit = size(value).map_or(102_400, |size| size as usize)
            }
            "http.libhtp.default-config.response-body-limit" => {
                http.response_body_limit = size(value).map_or(102_400, |size| size as usize)
            }
            "http.libhtp.default-config.request-body-minimal-inspect-size" => {
                http.request_inspect_min = size(value).map_or(32 << 10, |size| size as usize)
            }
            "http.libhtp.default-config.response-body-minimal-inspect-size" => {
                http.response_inspect_min = size(value).map_or(40 << 10, |size| size as usize)
            }
            "http.libhtp.default-config.response-body-decompress-layer-limit" => {
                http.decompress_layers = size(value).map_or(2, |size| size as usize)
            }
            "http.libhtp.default-config.uri-include-all" => http.uri_include_all = yes(value),
            "http2.http1-rules" => http.http1_rules_on_http2 = yes(value),
            "dns.detection-ports.dp" | "dns.udp.detection-ports.dp" | "dns.tcp.detection-ports.dp" => {
                self.app.dns_ports =
                    value.trim_matches(['[', ']']).split(',').filter_map(|port| port.trim().parse().ok()).collect();
            }
            _ => return false,
        }
        true
    }

    fn other_key(&mut self, key: &str, value: &str, given: &mut Given) -> bool {
        match key {
            "packet-alert-max" => {
                self.outcome.most_alerts = size(value).map_or(15, |count| (count as usize).clamp(1, 65_535))
            }
            "threshold-file" => given.threshold_file = Some(value.to_owned()),
            "classification-file" => given.classification_file = Some(value.to_owned()),
            "default-rule-path" => given.rule_path = Some(value.to_owned()),
            "reputation-categories-file" => given.reputation_categories = Some(value.to_owned()),
            "default-reputation-path" => given.reputation_path = Some(value.to_owned()),
            key if key.starts_with("reputation-files.") => given.reputation_files.push(value.to_owned()),
            key if key.starts_with("rule-files.") => given.rule_files.push(value.to_owned()),
            "action-order.0" => self.load.action_order = Action::parse(value).into_iter().collect(),
            key if key.starts_with("action-order.") => self.load.action_order.extend(Action::parse(value)),
            "decoder.teredo.enabled" => self.decode.teredo = yes(value),
            "decoder.vxlan.ports" => self.decode.vxlan_ports = self.ports(value),
            "decoder.geneve.ports" => self.decode.geneve_ports = self.ports(value),
            "stream.reassembly.memcap" => self.flow.memory = size(value).map_or(256 << 20, |count| count as usize),
            "flow.memcap" | "flow.hash-size" | "flow.prealloc" => return false,
            "flow-timeouts.tcp.new" => self.flow.tcp.0 = size(value).map_or(60, |s| s as i64),
            "flow-timeouts.tcp.established" => self.flow.tcp.1 = size(value).map_or(600, |s| s as i64),
            "flow-timeouts.tcp.closed" => self.flow.tcp.2 = size(value).map_or(60, |s| s as i64),
            "flow-timeouts.udp.new" => self.flow.udp.0 = size(value).map_or(30, |s| s as i64),
            "flow-timeouts.udp.established" => self.flow.udp.1 = size(value).map_or(300, |s| s as i64),
            "flow-timeouts.icmp.new" => self.flow.icmp.0 = size(value).map_or(30, |s| s as i64),
            "flow-timeouts.icmp.established" => self.flow.icmp.1 = size(value).map_or(300, |s| s as i64),
            _ => return false,
        }
        true
    }

    fn ports(&self, value: &str) -> Vec<u16> {
        let value =
            value.strip_prefix('$').and_then(|name| self.load.variables.ports.get(name)).map_or(value, String::as_str);
        value.trim_matches(['[', ']']).split(',').filter_map(|port| port.trim().parse().ok()).collect()
    }
}

/// Leaves of a tree under their dotted keys; lists of plain values of address groups stay one text.
fn flatten(prefix: &str, value: &Value, depth: usize, out: &mut Vec<(String, String)>) {
    if depth > 16 {
        return;
    }
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    match value {
        Value::Mapping(map) => {
            for (name, value) in map {
                if let Some(name) = scalar(name) {
                    flatten(&join(&name), value, depth + 1, out);
                }
            }
        }
        Value::Sequence(list) => {
            // A list of one-key maps (`- http: …`) reads like a map.
            for (at, value) in list.iter().enumerate() {
                match value {
                    Value::Mapping(_) => flatten(prefix, value, depth + 1, out),
                    _ => flatten(&join(&at.to_string()), value, depth + 1, out),
                }
            }
        }
        other => {
            if let Some(text) = scalar(other) {
                out.push((prefix.to_owned(), text));
            }
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1")
}

/// `100kb`, `1 mb`, `5`.
fn size(value: &str) -> Option<u64> {
    let value = value.trim().to_ascii_lowercase();
    let end = value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(value.len());
    let (digits, unit) = value.split_at(end);
    let factor = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn policy(value: &str) -> ExceptionPolicy {
    match value {
        "ignore" => ExceptionPolicy::Ignore,
        "drop-flow" => ExceptionPolicy::DropFlow,
        "drop-packet" => ExceptionPolicy::DropPacket,
        "pass-flow" => ExceptionPolicy::PassFlow,
        "pass-packet" => ExceptionPolicy::PassPacket,
        "bypass" => ExceptionPolicy::Bypass,
        "reject" => ExceptionPolicy::Reject,
        _ => ExceptionPolicy::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_and_what_it_has_beyond() {
        let text = "%YAML 1.1\n---\nvars:\n  address-groups:\n    HOME_NET: \"[1.2.3.0/24]\"\nstream:\n  midstream: yes\n  reassembly:\n    depth: 2mb\nhost-os-policy:\n  old-linux: [10.0.0.1]\naction-order:\n  - drop\n  - pass\nnothing: 1\napp-layer:\n  protocols:\n    http:\n      libhtp:\n         default-config:\n           response-body-limit: 1kb\n";
        let mut settings = Settings::default();
        let given = settings.apply_yaml(text, &[("stream.inline".into(), "true".into())]).unwrap();
        assert_eq!(settings.load.variables.addresses["HOME_NET"], "[1.2.3.0/24]");
        assert!(settings.stream.midstream && settings.stream.inline);
        assert_eq!((settings.stream.depth, settings.app.http.response_body_limit), (2 << 20, 1024));
        assert_eq!(settings.load.action_order, [Action::Drop, Action::Pass]);
        assert_eq!(settings.stream.hosts.len(), 1);
        assert_eq!(given.unused, ["nothing"]);
    }

    #[test]
    fn not_yaml() {
        assert!(Settings::default().apply_yaml("a: [", &[]).is_err());
    }
}
