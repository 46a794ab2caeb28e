//! What is told of an alert: the engine's event, with who this host is, which way the connection goes, who stands
//! behind a trusted proxy, and what the playbooks of the host ask for.

use std::net::IpAddr;

use sakimori_detect::forwarded::client_behind;
use sakimori_model::rule::{Scope, Severity};
use sakimori_model::{Event, Network, Order, Timestamp, Value, field};
use sakimori_network::{Action, Alert};
use sakimori_respond::playbook::{Playbook, Setting, TRIAL, TRIAL_REASON};
use sakimori_wire::ipc_network::NetworkStart;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::modules::intrusion_prevention::PROBE_RULE;

/// Netfilter's hooks.
const INPUT: u8 = 1;
const OUTPUT: u8 = 3;

/// Makes events.
pub struct Teller {
    agent: String,
    host_name: String,
    host_id: String,
    stream: String,
    proxies: Vec<Network>,
    playbooks: Vec<Playbook>,
    bundle: u64,
    trial: Vec<u32>,
}

impl Teller {
    /// For one worker.
    pub fn new(start: NetworkStart, playbooks: Vec<Playbook>, bundle: u64, trial: Vec<u32>) -> Self {
        let NetworkStart { agent, host_name, host_id, stream, proxies, .. } = start;
        Self { agent, host_name, host_id, stream, proxies, playbooks, bundle, trial }
    }

    /// Number of the bundle in effect.
    pub fn bundle(&self) -> u64 {
        self.bundle
    }

    /// Proxies whose X-Forwarded-For is believed.
    pub fn set_proxies(&mut self, proxies: Vec<Network>) {
        self.proxies = proxies;
    }

    /// What came with other rules.
    pub fn change(&mut self, playbooks: Vec<Playbook>, bundle: u64, trial: Vec<u32>) {
        (self.playbooks, self.bundle, self.trial) = (playbooks, bundle, trial);
    }

    /// The event of an alert at a hook, which will be of this number in its stream, and what it asks for.
    pub fn tell(&self, alert: &Alert, hook: u8, number: u64, now: Timestamp) -> (Event, Vec<Order>) {
        let mut event = alert.event();
        self.sign(&mut event, now);
        self.verdict(&mut event, alert);
        event.set(field::NETWORK_DIRECTION, direction(alert, hook));
        self.client(&mut event, alert);
        let severity = severity(alert);
        event.set(field::EVENT_SEVERITY, severity);
        event.set(field::EVENT_RISK_SCORE, Value::Double(f64::from(i32::try_from(severity).unwrap_or(0))));
        for (kind, value) in &alert.rule.references {
            match kind.as_str() {
                "cve" => event.push(field::VULNERABILITY_ID, format!("CVE-{}", value.trim_start_matches("CVE-"))),
                "url" => event.set(field::RULE_REFERENCE, value.clone()),
                _ => {}
            }
        }
        let techniques = alert.rule.metadata.iter().filter(|(name, _)| name == "technique");
        for (_, technique) in techniques {
            event.set(field::THREAT_FRAMEWORK, "MITRE ATT&CK");
            event.push(field::THREAT_TECHNIQUE_ID, technique.clone());
        }
        let id = self.id(alert, number);
        event.set(field::SAKIMORI_ALERT_ID, id.clone());
        event.set(field::SAKIMORI_ALERT_STATUS, "open");
        event.set(field::SAKIMORI_ALERT_SCOPE, "host");
        event.set(field::SAKIMORI_ALERT_COUNT, 1_i64);
        if alert.rule.sid == PROBE_RULE {
            event.set(field::SAKIMORI_PROBE, true);
            return (event, Vec::new());
        }
        let setting = Setting { place: &self.agent, now, scope: Scope::Host };
        let orders = self.playbooks.iter().flat_map(|playbook| playbook.evaluate(&event, &id, &setting)).collect();
        (event, orders)
    }

    fn sign(&self, event: &mut Event, now: Timestamp) {
        event.set(field::EVENT_CREATED, now);
        event.set(field::ECS_VERSION, "8.17.0");
        event.set(field::AGENT_TYPE, "sakimori");
        event.set(field::AGENT_VERSION, env!("CARGO_PKG_VERSION"));
        event.set(field::AGENT_ID, self.agent.clone());
        event.set(field::HOST_NAME, self.host_name.clone());
        event.set(field::HOST_ID, self.host_id.clone());
        event.set(field::EVENT_MODULE, "sakimori");
        event.set(field::EVENT_DATASET, "sakimori.network");
        event.set(field::SAKIMORI_MODULE, "intrusion_prevention");
        event.set(field::SAKIMORI_DETECT_BUNDLE, i64::try_from(self.bundle).unwrap_or(i64::MAX));
    }

    /// What was done, and what was not and why.
    fn verdict(&self, event: &mut Event, alert: &Alert) {
        let rule = &alert.rule;
        event.set_path("sakimori.network.gid", json!(rule.gid));
        event.set_path("sakimori.network.group", json!(&*rule.group));
        event.set(field::RULE_RULESET, "suricata");
        let trial = self.trial.contains(&rule.sid);
        let reason = match (alert.action, alert.blocked, rule.written.blocks()) {
            (Action::Reject | Action::RejectDst | Action::RejectBoth, true, _) => "refused, with the rest of its flow",
            (_, true, _) => "dropped, with the rest of its flow",
            (_, false, _) if trial => TRIAL_REASON,
            _ if alert.stopped => "stopped by another rule",
            (_, false, true) => "let through, since the policy only looks",
            _ => "let through, since the rule only alerts",
        };
        if trial {
            event.set_path(TRIAL, json!(true));
        }
        event.set(field::EVENT_REASON, reason);
        event.set(field::EVENT_OUTCOME, if alert.stopped { "success" } else { "failure" });
        event.set(field::MESSAGE, format!("{}: {reason}", rule.msg));
    }

    /// The client behind a trusted proxy, in the place of the proxy.
    fn client(&self, event: &mut Event, alert: &Alert) {
        let peer = if alert.to_server { alert.src } else { alert.dst };
        event.push(field::RELATED_IP, peer);
        let header = alert.http.as_ref().map(|http| http.forwarded_for.as_str()).unwrap_or_default();
        if header.is_empty() {
            return;
        }
        let behind = client_behind(peer, header, &self.proxies);
        let Some(proxy) = behind.proxy else { return };
        event.set(field::CLIENT_IP, behind.client);
        event.remove(field::CLIENT_PORT);
        if alert.to_server {
            event.set(field::SOURCE_IP, behind.client);
            event.remove(field::SOURCE_PORT);
        }
        event.set(field::NETWORK_FORWARDED_IP, behind.client);
        event.set(field::SAKIMORI_PROXY_IP, proxy);
        event.push(field::RELATED_IP, behind.client);
    }

    /// It names the occurrence: this alert of this stream.
    fn id(&self, alert: &Alert, number: u64) -> String {
        let mut hash = Sha256::new();
        for part in [self.agent.as_bytes(), self.stream.as_bytes(), &number.to_be_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(alert.rule.sid.to_be_bytes());
        let mut text = hex::encode(hash.finalize());
        text.truncate(32);
        text
    }
}

/// Which way the connection goes, as far as the hook tells: who began it from outside or from here. A forwarded one goes
/// to where the private address is.
fn direction(alert: &Alert, hook: u8) -> &'static str {
    let (client, server) = if alert.to_server { (alert.src, alert.dst) } else { (alert.dst, alert.src) };
    match (hook, alert.to_server) {
        (INPUT, true) | (OUTPUT, false) => "inbound",
        (OUTPUT, true) | (INPUT, false) => "outbound",
        _ => match (is_private(client), is_private(server)) {
            (false, true) => "inbound",
            (true, false) => "outbound",
            (true, true) => "internal",
            (false, false) => "external",
        },
    }
}

/// Of a network that is not routed in the Internet (RFC 1918, RFC 4193, RFC 6598, link-local).
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let [one, two, ..] = four.octets();
            four.is_private() || four.is_link_local() || four.is_loopback() || (one == 100 && two & 0xc0 == 64)
        }
        IpAddr::V6(six) => six.is_unique_local() || six.is_unicast_link_local() || six.is_loopback(),
    }
}

/// ECS severity: what the rule's metadata say, else by its priority.
fn severity(alert: &Alert) -> i64 {
    let named = alert.rule.metadata.iter().find(|(name, _)| name == "severity").map(|(_, value)| value.as_str());
    let severity = match (named, alert.rule.priority) {
        (Some("critical"), _) => Severity::Critical,
        (Some("high"), _) => Severity::High,
        (Some("medium"), _) => Severity::Medium,
        (Some("low"), _) => Severity::Low,
        (_, 1) => Severity::High,
        (_, 2) => Severity::Medium,
        (_, 3) => Severity::Low,
        _ => Severity::Informational,
    };
    severity.number()
}
