//! The manager's configuration, one TOML file. Every value has a default that is safe for production.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use sakimori_cloud::aws::{Account, waf::WafConfig};
use sakimori_runtime::Secret;
use sakimori_runtime::telemetry::LogFormat;
use sakimori_store::lake::{BucketOptions, LakeOptions};
use serde::Deserialize;

use crate::WRITER;
use crate::backup::{CONTROL, LAKE};
use crate::ingest::settings::Ways;
use crate::sign_in::settings::SignIn;

/// All of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything lies that must not be lost.
    pub state_dir: PathBuf,
    /// The file with the keys that seal secrets; `seal.key` beside the configuration file where absent.
    pub seal_key: Option<PathBuf>,
    /// Where logs go and how.
    pub log: Log,
    /// The REST API.
    pub api: Api,
    /// How people sign in.
    pub sign_in: SignIn,
    /// The agents' channel.
    pub link: Link,
    /// Control state.
    pub store: Store,
    /// Where the lake lies and when it writes.
    pub lake: LakeConfig,
    /// Cloud accounts; nothing is done in any until one is named here.
    pub cloud: Cloud,
    /// What floods of alerts may make it write.
    pub flood: Flood,
    /// Ways in for what others send.
    pub ingest: Ways,
    /// Where messages go.
    pub notify: Vec<Channel>,
    /// A folder whose files are added to, or replace, the built-in content.
    pub content_dir: Option<PathBuf>,
    /// The file that this was read from, where it was one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Config {
    /// Where control state lies, as [`sakimori_store::control::Control::open`] takes it. It may hold a password.
    pub fn control_url(&self) -> String {
        match &self.store.url {
            Some(url) => url.expose().clone(),
            None => format!("sqlite:{}", self.state_dir.join(CONTROL).display()),
        }
    }

    /// How the lake is kept.
    pub fn lake_options(&self) -> LakeOptions {
        let mut options = LakeOptions::new(self.state_dir.join(LAKE), WRITER);
        options.flush_seconds = self.lake.flush_seconds;
        options.flush_bytes = self.lake.flush_bytes;
        let profile = self.lake.profile.clone().unwrap_or_else(|| "default".into());
        options.bucket = self.lake.url.clone().map(|url| BucketOptions {
            url,
            endpoint: self.lake.endpoint.clone(),
            region: self.lake.region.clone(),
            credentials: self.lake.credentials_file.clone().map(|file| (file, profile)),
        });
        options
    }
}

/// Logs of the program itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// `info`, `debug`, or a `tracing` filter.
    pub level: String,
}

/// The REST API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Address and port; anything but loopback is served by TLS only.
    pub listen: SocketAddr,
    /// Serve TLS on loopback too.
    pub tls: bool,
    /// Where people reach it, `https://sakimori.example.net`: for links in messages, which have none where absent.
    pub public_url: Option<String>,
    /// A certificate chain of your own, PEM, instead of one of the manager's CA.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Connections at a time; an eighth of them is for this machine's own 127.0.0.1 and ::1.
    pub connections: usize,
    /// Of them, those of one address (IPv6: of one /64).
    pub connections_of_address: usize,
    /// Seconds for a handshake, and for the head of a request.
    pub head_seconds: u64,
    /// Seconds for the body of a request, and one more for each 16 KiB of it; and for whoever has to take an answer.
    pub body_seconds: u64,
    /// Seconds that a connection may rest between two requests.
    pub idle_seconds: u64,
}

/// The agents' channel: always TLS 1.3.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// How agents reach it, `host:port`; written into enrolment tokens. Empty: as listened on.
    pub advertise: String,
    /// Folder of the agent's package, which hosts with a token fetch; with the program where absent.
    pub packages: Option<PathBuf>,
}

/// Control state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `postgres://user@host/database`, whose database is this manager's alone; a file below `state_dir` where absent.
    pub url: Option<Secret<String>>,
}

/// The lake.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LakeConfig {
    /// `s3://bucket/prefix`; a folder below `state_dir` where absent.
    pub url: Option<String>,
    /// Where S3's protocol is spoken, where that is not Amazon.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// A shared credentials file of AWS; the environment's or the machine's role where absent.
    pub credentials_file: Option<PathBuf>,
    /// The profile in it.
    pub profile: Option<String>,
    /// Seconds after which what is in memory is written to the table.
    pub flush_seconds: i64,
    /// Bytes after which it is.
    pub flush_bytes: usize,
    /// Largest journal; agents wait while it is full.
    pub journal_bytes: u64,
    /// Days for which events are kept, by the day of the event.
    pub retention_days: u32,
    /// The same for single tenants, by their id.
    pub retention_days_by_tenant: BTreeMap<String, u32>,
    /// Below this share of free disk nothing new is taken, in percent; agents keep what they have and wait.
    pub least_free_percent: u8,
}

impl LakeConfig {
    /// For how many days a tenant's events are kept.
    pub fn retention_days_of(&self, tenant: &str) -> i64 {
        self.retention_days_by_tenant.get(tenant).copied().unwrap_or(self.retention_days).max(1).into()
    }
}

/// Cloud accounts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cloud {
    /// AWS WAF.
    pub waf: Option<WafConfig>,
    /// AWS accounts, by the name that playbooks and people give them.
    pub accounts: BTreeMap<String, Account>,
}

/// What floods of alerts may make it write, and how long what is over is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flood {
    /// Actions of one kind that a playbook may ask for at once; the manager's own kinds, messages apart.
    pub actions_burst: u32,
    /// Then so many a minute; the others are counted, and told once.
    pub actions_per_minute: u32,
    /// Instead of it for addresses in the WAF, of which any number is one call.
    pub addresses_per_minute: u32,
    /// Messages that a playbook may ask for at once.
    pub messages_burst: u32,
    /// Then so many a minute; of the others one message a minute says how many they are.
    pub messages_per_minute: u32,
    /// Actions of one host that are listed at once; its own ledger has all.
    pub host_actions_burst: u32,
    /// Then so many a minute.
    pub host_actions_per_minute: u32,
    /// Days for which actions that are over are kept.
    pub keep_days: u32,
    /// Of a tenant's actions that are over, so many are kept at the most.
    pub keep_most: u32,
}

/// Where messages go: a chat, a ticket, a pager, mail, a topic, syslog, a webhook ([`crate::channels`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channel {
    /// What playbooks call it.
    pub name: String,
    /// What its receiver is: a slug of [`crate::channels::CATALOG`].
    pub kind: String,
    /// Where messages go, where the kind has an address.
    pub url: String,
    /// File that holds its secret: key of the HMAC signature, token, password.
    pub secret_file: Option<PathBuf>,
    /// Or the secret that it is, as `sakimori secrets set` made it: its name, after `tenant/` where that is not
    /// the tenant `default`.
    pub secret: Option<String>,
    /// Messages about one alert rule within this many seconds become one.
    pub burst_seconds: u64,
    /// Messages a minute at the most; what the kind says where absent.
    pub per_minute: Option<u32>,
    /// Language of its messages.
    pub language: Language,
    /// Zone of the times in them.
    pub zone: String,
    /// What else its kind has to know.
    pub settings: BTreeMap<String, String>,
}

impl Channel {
    /// A setting of its kind, where it is given.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: crate::channels::webhook::KIND.id.into(),
            url: String::new(),
            secret_file: None,
            secret: None,
            burst_seconds: 5,
            per_minute: None,
            language: Language::En,
            zone: "UTC".into(),
            settings: BTreeMap::new(),
        }
    }
}

/// A language of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Japanese.
    Ja,
}

impl Language {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::En, Self::Ja];

    /// Its tag, and the name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ja => "ja",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/sakimori/manager".into(),
            seal_key: None,
            log: Log::default(),
            api: Api::default(),
            sign_in: SignIn::default(),
            link: Link::default(),
            store: Store::default(),
            lake: LakeConfig::default(),
            cloud: Cloud::default(),
            flood: Flood::default(),
            ingest: Ways::default(),
            notify: Vec::new(),
            content_dir: None,
            file: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7600)),
            tls: false,
            public_url: None,
            certificate: None,
            key: None,
            connections: 1_024,
            connections_of_address: 128,
            head_seconds: 10,
            body_seconds: 30,
            idle_seconds: 60,
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7601)), advertise: String::new(), packages: None }
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            actions_burst: 2_000,
            actions_per_minute: 100,
            addresses_per_minute: 1_000,
            messages_burst: 200,
            messages_per_minute: 20,
            host_actions_burst: 20_000,
            host_actions_per_minute: 1_000,
            keep_days: 30,
            keep_most: 200_000,
        }
    }
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            credentials_file: None,
            profile: None,
            flush_seconds: 60,
            flush_bytes: 128 << 20,
            journal_bytes: 4 << 30,
            retention_days: 90,
            retention_days_by_tenant: BTreeMap::new(),
            least_free_percent: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_store::control::users::Role;

    #[test]
    fn the_guide_shows_the_defaults() {
        let guide = include_str!("../../../docs/configuration.md");
        let (_, after) = guide.split_once("```toml manager\n").unwrap();
        let (example, _) = after.split_once("```").unwrap();
        let shown: Config = toml::from_str(example).unwrap();
        assert_eq!(format!("{shown:?}"), format!("{:?}", Config::default()));
        // What is commented out is right too.
        let uncommented: String = example
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|line| line.contains(" = ") || line.starts_with('[')).unwrap_or(line)
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let all: Config = toml::from_str(&uncommented).unwrap();
        assert_eq!(all.lake.retention_days_of("acme"), 30);
        assert_eq!(all.lake.retention_days_of("other"), 90);
        assert!(all.store.url.is_some() && all.lake_options().bucket.is_some_and(|one| one.credentials.is_some()));
        assert!(!format!("{:?}", all.store).contains("postgres"), "it may hold a password");
        assert!(all.cloud.accounts.values().all(|account| account.check().is_ok() && account.proxy.is_some()));
        assert!(
            all.cloud.accounts.len() == 1 && all.cloud.waf.is_some() && all.notify.len() == 12 && all.api.key.is_some()
        );
        for channel in &all.notify {
            crate::channels::check(channel).unwrap_or_else(|problem| panic!("{}: {problem}", channel.name));
        }
        for kind in crate::channels::CATALOG {
            assert!(all.notify.iter().any(|channel| channel.kind == kind.id), "{} is shown", kind.id);
        }
        assert!(all.seal_key.is_some());
        assert_eq!((all.sign_in.oidc.len(), all.sign_in.check(all.api.public_url.as_deref())), (1, Ok(())));
        assert!(all.sign_in.needs_factor("acme", Role::Admin) && !all.sign_in.needs_factor("default", Role::Admin));
        assert_eq!((all.ingest.names().count(), all.ingest.check()), (4, Ok(())));
    }
}
