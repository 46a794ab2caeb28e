//! The ways in, as the configuration names them: `[[ingest.webhook]]`, `[[ingest.sns]]`, `[[ingest.sqs]]`,
//! `[[ingest.syslog]]`. None is there until it is written.
//!
//! What comes by a way is its tenant's, whatever it says of itself. `sources` are the log sources that it may be of, by id;
//! where none is named, all that recognise their records by themselves.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use sakimori_model::Network;
use serde::Deserialize;

/// Most ways of all kinds: each has a process of its own that parses.
pub const MOST: usize = 64;

/// All of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ways {
    /// What is posted to us.
    pub webhook: Vec<Webhook>,
    /// Topics that are subscribed over HTTP.
    pub sns: Vec<Sns>,
    /// Queues that are read.
    pub sqs: Vec<Sqs>,
    /// Lines that are sent by syslog.
    pub syslog: Vec<Syslog>,
}

/// How a webhook shows who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// `X-Sakimori-Signature: t=…,v1=…`: HMAC-SHA256 over time and body, as our own messages have it.
    #[default]
    Sakimori,
    /// `X-Hub-Signature-256: sha256=…`: HMAC-SHA256 over the body, as GitHub signs.
    Github,
    /// `Authorization: Bearer …`: the secret itself, for senders that cannot sign. By TLS or on this machine only.
    Token,
}

/// A webhook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Name: the last part of its path, `/api/v1/ingest/<name>`.
    pub name: String,
    /// Whose events these are.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Log sources.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How the sender shows who it is.
    #[serde(default)]
    pub proof: Proof,
    /// Name of the secret (`sakimori secrets set`), one of the tenant's.
    pub secret: String,
    /// Seconds that a signed time may lie apart from ours.
    #[serde(default = "window")]
    pub window_seconds: u32,
}

/// A subscription of Amazon SNS over HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sns {
    /// Name: the last part of its path, `/api/v1/ingest/<name>`.
    pub name: String,
    /// Whose events these are.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Log sources.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Topics, by ARN: of no other anything is taken or confirmed.
    pub topics: Vec<String>,
    /// Another origin than Amazon's that serves certificates and confirmations, `https://host:port`: a simulator, a proxy.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Hours after which a message is too old. SNS tries again for some hours.
    #[serde(default = "hours")]
    pub oldest_hours: u32,
}

/// A queue of Amazon SQS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqs {
    /// Name.
    pub name: String,
    /// Whose events these are.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Log sources.
    #[serde(default)]
    pub sources: Vec<String>,
    /// The queue's URL.
    pub queue: String,
    /// Which of `cloud.accounts` reads it.
    pub account: String,
}

/// How lines are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A datagram a message (RFC 5426).
    Udp,
    /// Octet counting or a line feed after each (RFC 6587).
    Tcp,
    /// The same in TLS (RFC 5425).
    Tls,
}

/// A listener for syslog.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// Name.
    pub name: String,
    /// Whose events these are.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Log sources.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Address and port.
    pub listen: SocketAddr,
    /// How lines are sent.
    pub transport: Transport,
    /// Who may send: networks; with none only this machine.
    #[serde(default)]
    pub senders: Vec<Network>,
    /// Certificate chain of `tls`, PEM; one of the manager's own authority where absent.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Authority whose client certificates are asked for in `tls`, PEM.
    #[serde(default)]
    pub client_authority: Option<PathBuf>,
    /// Lines a second that one sender may send; what is over is lost and counted by UDP, and waits by TCP.
    #[serde(default = "pace")]
    pub lines_per_second: u32,
}

impl Syslog {
    /// May this address send?
    pub fn admits(&self, sender: IpAddr) -> bool {
        let sender = sender.to_canonical();
        if self.senders.is_empty() {
            return sender.is_loopback();
        }
        self.senders.iter().any(|network| network.contains(sender))
    }
}

fn default_tenant() -> String {
    sakimori_store::control::DEFAULT_TENANT.to_owned()
}

fn window() -> u32 {
    300
}

fn hours() -> u32 {
    24
}

fn pace() -> u32 {
    2_000
}

impl Ways {
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// Names and tenants of all.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let webhooks = self.webhook.iter().map(|way| (way.name.as_str(), way.tenant.as_str()));
        let topics = self.sns.iter().map(|way| (way.name.as_str(), way.tenant.as_str()));
        let queues = self.sqs.iter().map(|way| (way.name.as_str(), way.tenant.as_str()));
        let lines = self.syslog.iter().map(|way| (way.name.as_str(), way.tenant.as_str()));
        webhooks.chain(topics).chain(queues).chain(lines)
    }

    /// What is wrong with them.
    ///
    /// # Errors
    /// The first thing, with the setting.
    pub fn check(&self) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in self.names() {
            let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 64 || !name.chars().all(right) {
                return Err(format!("ingest: {name:?} is no name: 1 to 64 lower-case letters, digits, - and _"));
            }
            if !seen.insert(name) {
                return Err(format!("ingest: {name} is there twice; each way has a name of its own"));
            }
        }
        if seen.len() > MOST {
            return Err(format!("ingest: at most {MOST} ways can be configured"));
        }
        if let Some(way) = self.sns.iter().find(|way| way.topics.is_empty()) {
            return Err(format!(
                "ingest.sns {}: topics are missing; nothing is taken of a topic that is not named",
                way.name
            ));
        }
        for way in &self.syslog {
            let own = (way.certificate.is_some(), way.key.is_some());
            if own.0 != own.1 {
                return Err(format!("ingest.syslog {}: certificate and key belong together", way.name));
            }
            if way.transport != Transport::Tls && (own.0 || way.client_authority.is_some()) {
                return Err(format!("ingest.syslog {}: certificates are for transport = \"tls\"", way.name));
            }
            if way.lines_per_second == 0 {
                return Err(format!("ingest.syslog {}: lines_per_second is at least 1", way.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Ways, String> {
        let ways: Ways = toml::from_str(text).map_err(|error| error.to_string())?;
        ways.check().map(|()| ways)
    }

    #[test]
    fn what_is_wrong_is_named() {
        let hook = "[[webhook]]\nname = \"a\"\nsecret = \"s\"\n";
        assert_eq!(read(hook).unwrap().webhook[0].tenant, "default");
        let syslog = "[[syslog]]\nname = \"l\"\nlisten = \"127.0.0.1:0\"\ntransport = \"udp\"\n";
        for (text, reason) in [
            (format!("{hook}{hook}"), "twice"),
            (hook.replace("\"a\"", "\"A b\""), "no name"),
            ("[[sns]]\nname = \"t\"\ntopics = []\n".into(), "topics"),
            (format!("{syslog}key = \"/k\"\n"), "belong together"),
            (format!("{syslog}client_authority = \"/k\"\n"), "tls"),
            (format!("{syslog}lines_per_second = 0\n"), "at least 1"),
            (format!("{hook}colour = 1\n"), "colour"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let many: String = (0..=MOST).map(|n| hook.replace("\"a\"", &format!("\"a{n}\""))).collect();
        assert!(read(&many).unwrap_err().contains("at most"));
    }

    #[test]
    fn without_senders_only_this_machine_may_send() {
        let syslog = "[[syslog]]\nname = \"l\"\nlisten = \"127.0.0.1:0\"\ntransport = \"udp\"\n";
        let own = &read(syslog).unwrap().syslog[0];
        assert!(own.admits("127.0.0.1".parse().unwrap()) && own.admits("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!own.admits("192.0.2.1".parse().unwrap()));
        let named = &read(&format!("{syslog}senders = [\"192.0.2.0/24\"]\n")).unwrap().syslog[0];
        assert!(named.admits("192.0.2.1".parse().unwrap()) && !named.admits("127.0.0.1".parse().unwrap()));
    }
}
