//! Posts messages to webhooks, signed, with the message's id and a mark where it may be a repeat.

use std::collections::HashMap;
use std::time::Duration;

use sakimori_respond::message::{Message, SIGNATURE_HEADER, signature};
use sakimori_respond::ports::{BoxFuture, Messenger, PortError};
use sakimori_runtime::{Secret, clock::SharedClock};

use crate::config::Channel;

/// Longest secret file.
const MAX_SECRET: u64 = 64 * 1024;

/// The webhooks of the configuration.
pub struct Webhooks {
    client: reqwest::Client,
    channels: HashMap<String, (String, Option<Secret<Vec<u8>>>)>,
    clock: SharedClock,
}

impl Webhooks {
    /// Reads the secrets.
    ///
    /// # Errors
    /// A secret that cannot be read.
    pub fn open(channels: &[Channel], clock: SharedClock) -> Result<Self, String> {
        let client = sakimori_runtime::http::client(Duration::from_secs(10)).map_err(|error| error.to_string())?;
        let mut known = HashMap::new();
        for channel in channels {
            let secret = channel.secret_file.as_ref().map(|path| {
                let fail = |error: std::io::Error| {
                    format!("notify channel {}: read {}: {error}", channel.name, path.display())
                };
                if std::fs::metadata(path).map_err(fail)?.len() > MAX_SECRET {
                    return Err(format!(
                        "notify channel {}: {} is too large for a secret",
                        channel.name,
                        path.display()
                    ));
                }
                Ok(Secret::new(std::fs::read(path).map_err(fail)?.trim_ascii().to_vec()))
            });
            known.insert(channel.name.clone(), (channel.url.clone(), secret.transpose()?));
        }
        Ok(Self { client, channels: known, clock })
    }
}

impl Messenger for Webhooks {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            let Some((url, secret)) = self.channels.get(&message.channel) else {
                return Err(PortError::permanent(format!("no channel named {} is configured", message.channel)));
            };
            let mut request = self
                .client
                .post(url)
                .header("Content-Type", "application/json")
                .header("X-Sakimori-Message", &message.id);
            if message.tries > 0 {
                request = request.header("X-Sakimori-Repeat", "may be a repeat");
            }
            if let Some(secret) = secret {
                request = request.header(SIGNATURE_HEADER, signature(secret.expose(), self.clock.now(), &message.body));
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
