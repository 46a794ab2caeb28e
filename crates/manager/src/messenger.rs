//! Posts messages to webhooks, signed, with the message's id and a mark where it may be a repeat.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sakimori_respond::message::{Message, SIGNATURE_HEADER, signature};
use sakimori_respond::ports::{BoxFuture, Messenger, PortError};
use sakimori_runtime::{Secret, clock::SharedClock};
use sakimori_store::control::{Control, DEFAULT_TENANT};

use crate::config::Channel;
use crate::sealing::Sealing;

/// Longest secret, in bytes.
pub const MAX_SECRET: u64 = 64 * 1024;

/// The webhooks of the configuration.
pub struct Webhooks {
    client: reqwest::Client,
    channels: HashMap<String, (String, Key)>,
    named: Named,
    clock: SharedClock,
}

/// Where the key of a channel's signature is.
enum Key {
    /// It has none.
    None,
    /// It was in a file.
    Read(Secret<Vec<u8>>),
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

/// Tenant and name of the secret that a channel names.
pub fn secret_of(channel: &Channel) -> Option<(&str, &str)> {
    let named = channel.secret.as_deref()?;
    Some(named.split_once('/').unwrap_or((DEFAULT_TENANT, named)))
}

impl Webhooks {
    /// Reads the secrets that lie in files.
    ///
    /// # Errors
    /// A secret that cannot be read, or a channel that names two.
    pub fn open(channels: &[Channel], named: Named, clock: SharedClock) -> Result<Self, String> {
        let client = sakimori_runtime::http::client(Duration::from_secs(10)).map_err(|error| error.to_string())?;
        let mut known = HashMap::new();
        for channel in channels {
            let key = key(channel).map_err(|reason| format!("notify channel {}: {reason}", channel.name))?;
            known.insert(channel.name.clone(), (channel.url.clone(), key));
        }
        Ok(Self { client, channels: known, named, clock })
    }

    /// The key that signs, where the channel has one.
    async fn key(&self, channel: &str, key: &Key) -> Result<Option<Secret<Vec<u8>>>, PortError> {
        let (tenant, name) = match key {
            Key::None => return Ok(None),
            Key::Read(key) => return Ok(Some(key.clone())),
            Key::Named(tenant, name) => (tenant, name),
        };
        let found = self.named.sealing.named(&self.named.control, tenant, name).await;
        match found.map_err(|error| PortError::transient(format!("sign for {channel}: {error}")))? {
            Some(secret) => Ok(Some(Secret::new(secret.expose().trim_ascii().to_vec()))),
            // Never without a signature.
            None => Err(PortError::transient(format!(
                "sign for {channel}: the tenant {tenant} has no secret {name}; sakimori --tenant {tenant} secrets set \
                 {name} < FILE"
            ))),
        }
    }
}

fn key(channel: &Channel) -> Result<Key, String> {
    match (&channel.secret_file, secret_of(channel)) {
        (None, None) => Ok(Key::None),
        (None, Some((tenant, name))) => Ok(Key::Named(tenant.to_owned(), name.to_owned())),
        (Some(_), Some(_)) => Err("secret and secret_file are two ways for the same; give one".into()),
        (Some(path), None) => {
            let fail = |error: std::io::Error| format!("read {}: {error}", path.display());
            if std::fs::metadata(path).map_err(fail)?.len() > MAX_SECRET {
                return Err(format!("{} is too large for a secret", path.display()));
            }
            Ok(Key::Read(Secret::new(std::fs::read(path).map_err(fail)?.trim_ascii().to_vec())))
        }
    }
}

impl Messenger for Webhooks {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            let Some((url, key)) = self.channels.get(&message.channel) else {
                return Err(PortError::permanent(format!("no channel named {} is configured", message.channel)));
            };
            let key = self.key(&message.channel, key).await?;
            let mut request = self
                .client
                .post(url)
                .header("Content-Type", "application/json")
                .header("X-Sakimori-Message", &message.id);
            if message.tries > 0 {
                request = request.header("X-Sakimori-Repeat", "may be a repeat");
            }
            if let Some(key) = key {
                request = request.header(SIGNATURE_HEADER, signature(key.expose(), self.clock.now(), &message.body));
            }
            let answer = request.body(message.body.clone()).send().await;
            let answer = answer.map_err(|error| {
                PortError::transient(format!("post to {}: {}", message.channel, error.without_url()))
            })?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let reason = format!("post to {}: the receiver answered {status}", message.channel);
            if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
                let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                return Err(PortError::Transient { reason, retry_after: asked });
            }
            Err(PortError::permanent(reason))
        })
    }
}
