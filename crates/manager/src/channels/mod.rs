//! Channels: where messages go. A kind of receiver is one file, with its descriptor and what speaks to it; to add one: a
//! file here and a line in [`CATALOG`].
//!
//! - [`doc`], [`template`]: the words of a message, which every kind lays out in its own form and escapes for it.
//! - [`http`]: one request and what its answer means.
//! - [`pace`]: how often a channel is spoken to.
//!
//! A kind says how a repeat is made safe (D19). Of a `keyed` one the receiver, or a look at it beforehand, tells repeats
//! apart by the message's id, so that a message is there once however often it is tried. A `repeatable` one is tried again
//! where it is known that the message did not arrive, and once more, marked, where that is unknown.

pub mod doc;
pub mod email;
pub mod event_bridge;
pub mod http;
pub mod jira;
pub mod pace;
pub mod pagerduty;
pub mod preview;
pub mod security_hub;
pub mod servicenow;
pub mod slack;
pub mod sns;
pub mod syslog;
mod syslog_wire;
pub mod teams;
pub mod template;
pub mod webhook;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sakimori_cloud::aws::Account;
use sakimori_model::Timestamp;
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::{Secret, clock::SharedClock};
use sakimori_store::control::{Control, DEFAULT_TENANT};
use tokio::sync::Notify;

use crate::config::{Channel, Config};
use crate::sealing::Sealing;
use doc::Doc;
use template::{Templates, Words};

/// Longest secret, in bytes.
pub const MAX_SECRET: u64 = 64 * 1024;
/// How long one try may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// All kinds.
pub const CATALOG: &[&Kind] = &[
    &webhook::KIND,
    &slack::KIND,
    &teams::KIND,
    &jira::KIND,
    &servicenow::KIND,
    &pagerduty::KIND,
    &email::KIND,
    &sns::KIND,
    &syslog::KIND,
    &security_hub::KIND,
    &event_bridge::KIND,
];

/// A kind of receiver.
pub struct Kind {
    /// Slug, `kind` of a channel.
    pub id: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// What `url` is.
    pub url: Need,
    /// What `secret` is.
    pub secret: Need,
    /// Other settings.
    pub settings: &'static [Setting],
    /// How a repeat is made safe.
    pub safety: Safety,
    /// Does it tell a receiver that what an earlier message told is over?
    pub closes: bool,
    /// Is it told findings, for programs: each alert once and by itself, with the whole of its document? None: messages to people.
    pub findings: Option<Findings>,
    /// Seconds after which a receiver surely finds what it was sent: so long is waited where the outcome of a try is unknown.
    pub settles: i64,
    /// Messages at once, then a minute: what its maker publishes, or less.
    pub rate: (u32, u32),
    /// Makes what speaks to it. Nothing is called yet.
    pub open: fn(&Channel, &Tools) -> Result<Box<dyn Receiver>, String>,
}

/// What a kind that takes findings says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The log source of what came from there, which is never told there again; empty where nothing comes from there.
    pub source: &'static str,
    /// Rights in the account that it needs.
    pub rights: &'static [&'static str],
}

/// Whether something must be given, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be.
    Must(&'static str),
    /// It may be.
    May(&'static str),
    /// It has no meaning here.
    Never,
}

/// A setting of a kind, in `settings` of a channel.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Must it be given?
    pub must: bool,
}

impl Setting {
    /// One that must be given.
    pub const fn must(name: &'static str, about: &'static str) -> Self {
        Self { name, about, must: true }
    }

    /// One that may be given.
    pub const fn may(name: &'static str, about: &'static str) -> Self {
        Self { name, about, must: false }
    }
}

/// What receivers are made of.
pub struct Tools {
    /// The HTTP client.
    pub client: reqwest::Client,
    /// The time.
    pub clock: SharedClock,
    /// Cloud accounts by their name.
    pub accounts: BTreeMap<String, Account>,
}

/// What is sent.
pub struct Letter<'a> {
    /// The message's id: the same for every repeat.
    pub id: &'a str,
    /// Is it possible that the receiver has it?
    pub may_be_repeat: bool,
    /// What the receiver called the message that is closed; for all else empty.
    pub reference: &'a str,
    /// The id of the message that is closed.
    pub closes: Option<&'a str>,
    /// When the message was made.
    pub created: Timestamp,
    /// The facts as they were made: JSON text.
    pub body: &'a str,
    /// The facts.
    pub facts: &'a serde_json::Value,
    /// The words.
    pub doc: &'a Doc,
}

impl Tools {
    /// The account that a channel names, or the only one.
    ///
    /// # Errors
    /// There is none, or nobody can say which.
    pub fn account(&self, channel: &Channel) -> Result<&Account, String> {
        match channel.setting("account") {
            Some(name) => self.accounts.get(name).ok_or_else(|| format!("cloud.accounts.{name} is not configured")),
            None if self.accounts.len() > 1 => Err("settings.account is missing: there are several".into()),
            None => Ok(self.accounts.values().next().ok_or("cloud.accounts.<name> is not configured")?),
        }
    }
}

impl Letter<'_> {
    /// A text of the facts.
    pub fn fact(&self, path: &str) -> &str {
        self.facts.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// The word for the severity of what is told; that of a test is the least.
    pub fn severity(&self) -> &str {
        match self.fact("/severity_name") {
            "" => "informational",
            word => word,
        }
    }
}

/// The receiver has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// What the receiver calls it: `SEC-12`.
    pub reference: String,
    /// What it said, in a few words.
    pub answer: String,
}

impl Receipt {
    /// With what the receiver said.
    pub fn said(answer: impl Into<String>) -> Self {
        Self { reference: String::new(), answer: answer.into() }
    }

    /// With what the receiver calls it.
    pub fn called(reference: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { reference: reference.into(), answer: answer.into() }
    }
}

/// The receiver has it not, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It has it not, and may take it later.
    #[error("{reason}")]
    NotTaken {
        /// What was attempted and what came back.
        reason: String,
        /// The receiver's wish for the wait, in seconds.
        retry_after: Option<u64>,
    },
    /// It was sent, and no answer came: nobody knows.
    #[error("{0}")]
    Unknown(String),
    /// It will never take it as it is: a person has to change something.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// It has it not, and may take it later.
    pub fn not_taken(reason: impl Into<String>) -> Self {
        Self::NotTaken { reason: reason.into(), retry_after: None }
    }

    /// The same with other words.
    fn map(self, words: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::NotTaken { reason, retry_after } => Self::NotTaken { reason: words(&reason), retry_after },
            Self::Unknown(reason) => Self::Unknown(words(&reason)),
            Self::Refused(reason) => Self::Refused(words(&reason)),
        }
    }
}

/// Speaks to a receiver.
pub trait Receiver: Send + Sync {
    /// Tells a message. A keyed one looks first whether it is there where that is possible.
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>>;

    /// Tells that what an earlier message told is over. Repeating it changes nothing, or is marked.
    fn close<'a>(&'a self, _: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async { Ok(Receipt::said("nothing is closed there")) })
    }
}

/// A channel's secret as it is now.
#[derive(Clone, Default)]
pub struct Key(Option<Secret<Vec<u8>>>);

impl Key {
    /// Its bytes, where there is one.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.0.as_ref().map(|secret| secret.expose().as_slice())
    }

    /// Its text.
    ///
    /// # Errors
    /// There is none, or it is no text.
    pub fn text(&self) -> Result<&str, Failure> {
        let bytes = self.bytes().ok_or_else(|| Failure::Refused("it has no secret".to_owned()))?;
        std::str::from_utf8(bytes).map_err(|_| Failure::Refused("its secret is no text".to_owned()))
    }

    /// A text without the secret, and without the parts of one that is a URL or a user and a password.
    fn taken_out(&self, text: &str) -> String {
        let Some(secret) = self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
            return text.to_owned();
        };
        let parts = secret.split(['/', '?', '&', '=', ' ', '\n']).filter(|part| part.len() >= 12);
        std::iter::once(secret)
            .filter(|all| all.len() >= 4)
            .chain(parts)
            .fold(text.to_owned(), |text, part| if text.contains(part) { text.replace(part, "[secret]") } else { text })
    }
}

/// Where the secret of a channel is.
enum Place {
    /// It has none.
    None,
    /// It was in a file.
    Read(Key),
    /// Tenant and name of a secret, which is read when a message is sent: it may be set after the start, and replaced.
    Named(String, String),
}

/// Where named secrets are read.
pub struct Named {
    /// Control state.
    pub control: Control,
    /// What opens them.
    pub sealing: Arc<Sealing>,
}

/// A channel that is open.
struct Open {
    kind: &'static Kind,
    receiver: Box<dyn Receiver>,
    secret: Place,
    words: Words,
    /// Wakes who sends on it.
    signal: Notify,
}

/// The channels of the configuration.
pub struct Channels {
    known: HashMap<String, Open>,
    named: Named,
}

/// The kind of this slug.
pub fn find(id: &str) -> Option<&'static Kind> {
    CATALOG.iter().find(|kind| kind.id == id).copied()
}

/// Tenant and name of the secret that a channel names.
pub fn secret_of(channel: &Channel) -> Option<(&str, &str)> {
    let named = channel.secret.as_deref()?;
    Some(named.split_once('/').unwrap_or((DEFAULT_TENANT, named)))
}

/// Is a channel right as it is written? Nothing is read.
///
/// # Errors
/// What is wrong, with what is right.
pub fn check(channel: &Channel) -> Result<&'static Kind, String> {
    let kind = find(&channel.kind).ok_or_else(|| {
        let known: Vec<&str> = CATALOG.iter().map(|kind| kind.id).collect();
        format!("no kind {}; known are {}", channel.kind, known.join(", "))
    })?;
    match (kind.url, channel.url.is_empty()) {
        (Need::Must(what), true) => return Err(format!("url is missing: {what}")),
        (Need::Never, false) => return Err(format!("a channel of the kind {} has no url", kind.id)),
        _ => {}
    }
    let has_secret = match (&channel.secret_file, &channel.secret) {
        (Some(_), Some(_)) => return Err("secret and secret_file are two ways for the same; give one".into()),
        (file, named) => file.is_some() || named.is_some(),
    };
    match (kind.secret, has_secret) {
        (Need::Must(what), false) => return Err(format!("secret or secret_file is missing: {what}")),
        (Need::Never, true) => return Err(format!("a channel of the kind {} has no secret", kind.id)),
        _ => {}
    }
    for name in channel.settings.keys() {
        if !kind.settings.iter().any(|setting| setting.name == name) {
            let known: Vec<&str> = kind.settings.iter().map(|setting| setting.name).collect();
            return Err(format!("settings.{name} is none of the kind {}; known are: {}", kind.id, known.join(", ")));
        }
    }
    for setting in kind.settings.iter().filter(|setting| setting.must) {
        if channel.setting(setting.name).is_none() {
            return Err(format!("settings.{} is missing: {}", setting.name, setting.about));
        }
    }
    template::zone(&channel.zone)?;
    Ok(kind)
}

/// Are all channels of a configuration right as they are written, and do the templates of its content folder load?
///
/// # Errors
/// The first thing that is wrong.
pub fn check_all(config: &Config) -> Result<(), String> {
    for (at, channel) in config.notify.iter().enumerate() {
        check(channel).map_err(|reason| format!("notify channel {}: {reason}", channel.name))?;
        if config.notify.iter().take(at).any(|other| other.name == channel.name) {
            return Err(format!("notify channel {}: there are two of this name", channel.name));
        }
    }
    let Some(dir) = &config.content_dir else { return Ok(()) };
    let files = sakimori_content::files::read_dir(dir).map_err(|error| error.to_string())?;
    match Templates::load(&files, None).problems().first() {
        Some(problem) => Err(problem.clone()),
        None => Ok(()),
    }
}

impl Channels {
    /// Opens the channels of the configuration: reads the secrets that lie in files, calls nobody.
    ///
    /// # Errors
    /// A channel that is not right, or a secret that cannot be read.
    pub fn open(channels: &[Channel], tools: &Tools, named: Named, templates: &Templates) -> Result<Self, String> {
        let mut known = HashMap::new();
        for channel in channels {
            let open = || -> Result<Open, String> {
                let kind = check(channel)?;
                let words = templates.words(channel.language, &channel.zone)?;
                Ok(Open {
                    kind,
                    receiver: (kind.open)(channel, tools)?,
                    secret: place(channel)?,
                    words,
                    signal: Notify::new(),
                })
            };
            let open = open().map_err(|reason| format!("notify channel {}: {reason}", channel.name))?;
            if known.insert(channel.name.clone(), open).is_some() {
                return Err(format!("notify channel {}: there are two of this name", channel.name));
            }
        }
        Ok(Self { known, named })
    }

    /// The kind of a channel.
    pub fn kind(&self, channel: &str) -> Option<&'static Kind> {
        self.known.get(channel).map(|open| open.kind)
    }

    /// What wakes the sender of a channel.
    pub fn signal(&self, channel: &str) -> Option<&Notify> {
        self.known.get(channel).map(|open| &open.signal)
    }

    /// Wakes the sender of a channel; false where there is no such channel.
    pub fn wake(&self, channel: &str) -> bool {
        self.signal(channel).map(Notify::notify_one).is_some()
    }

    /// Wakes the senders of all.
    pub fn wake_all(&self) {
        self.known.values().for_each(|open| open.signal.notify_one());
    }

    /// Tells a message, or that it is over.
    ///
    /// # Errors
    /// What the receiver said, or that it said nothing; without the channel's secret.
    pub async fn send(&self, message: &Outgoing<'_>) -> Result<Receipt, Failure> {
        let Some(open) = self.known.get(message.channel) else {
            return Err(Failure::Refused(format!("no channel named {} is configured", message.channel)));
        };
        let key = self.key(message.channel, &open.secret).await?;
        let facts: serde_json::Value = serde_json::from_str(message.body)
            .map_err(|error| Failure::Refused(format!("its facts cannot be read: {error}")))?;
        let doc = open.words.of(&facts);
        let letter = Letter {
            id: message.id,
            may_be_repeat: message.may_be_repeat,
            reference: message.reference,
            closes: message.closes,
            created: message.created,
            body: message.body,
            facts: &facts,
            doc: &doc,
        };
        let tell = match message.closes {
            Some(_) => open.receiver.close(&letter, &key),
            None => open.receiver.tell(&letter, &key),
        };
        match tell.await {
            Ok(receipt) => Ok(Receipt { answer: key.taken_out(&receipt.answer), ..receipt }),
            Err(failure) => Err(failure.map(|reason| key.taken_out(reason))),
        }
    }

    /// The secret of a channel as it is now.
    async fn key(&self, channel: &str, place: &Place) -> Result<Key, Failure> {
        let (tenant, name) = match place {
            Place::None => return Ok(Key::default()),
            Place::Read(key) => return Ok(key.clone()),
            Place::Named(tenant, name) => (tenant, name),
        };
        let found = self.named.sealing.named(&self.named.control, tenant, name).await;
        match found.map_err(|error| Failure::not_taken(format!("open the secret of {channel}: {error}")))? {
            Some(secret) => Ok(Key(Some(Secret::new(secret.expose().trim_ascii().to_vec())))),
            // Never without it.
            None => Err(Failure::not_taken(format!(
                "sign for {channel}: the tenant {tenant} has no secret {name}; sakimori --tenant {tenant} secrets set \
                 {name} < FILE"
            ))),
        }
    }
}

/// A message as the sender hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Channel.
    pub channel: &'a str,
    /// Id.
    pub id: &'a str,
    /// May the receiver have it already?
    pub may_be_repeat: bool,
    /// What the receiver called the message that is closed.
    pub reference: &'a str,
    /// The id of the message that is closed.
    pub closes: Option<&'a str>,
    /// When it was made.
    pub created: Timestamp,
    /// The facts, JSON.
    pub body: &'a str,
}

fn place(channel: &Channel) -> Result<Place, String> {
    match (&channel.secret_file, secret_of(channel)) {
        (_, Some((tenant, name))) => Ok(Place::Named(tenant.to_owned(), name.to_owned())),
        (None, None) => Ok(Place::None),
        (Some(path), None) => {
            let fail = |error: std::io::Error| format!("read {}: {error}", path.display());
            if std::fs::metadata(path).map_err(fail)?.len() > MAX_SECRET {
                return Err(format!("{} is too large for a secret", path.display()));
            }
            Ok(Place::Read(Key(Some(Secret::new(std::fs::read(path).map_err(fail)?.trim_ascii().to_vec())))))
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
