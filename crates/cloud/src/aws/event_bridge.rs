//! Amazon EventBridge: puts one event at a time on a bus.
//!
//! A call takes up to ten entries of 256 KB together, and tells of each whether it was taken; with one entry there is one answer.
//! EventBridge tells no repeats apart: whoever reads the bus does, by the id in the event.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::retry::RetryConfig;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use sakimori_model::Timestamp;
use sakimori_respond::ports::PortError;
use tokio::sync::OnceCell;

use super::problem::{problem, surely_not_done};
use super::{Account, configuration};

/// What it needs.
pub const PERMISSIONS: &[&str] = &["events:PutEvents"];
/// Largest entry as AWS counts it, in bytes: source, detail-type, detail, and 14 for the time.
pub const MOST: usize = 262_144;

/// A bus in an account.
#[derive(Debug)]
pub struct Bus {
    account: Account,
    name: String,
    client: OnceCell<Client>,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Who says so; not `aws.`.
    pub source: &'a str,
    /// What it is.
    pub detail_type: &'a str,
    /// The event, a JSON object as text.
    pub detail: &'a str,
    /// When it was.
    pub time: Timestamp,
}

impl Bus {
    /// A bus by its name or ARN; nothing is called yet.
    pub fn new(account: Account, name: &str) -> Self {
        Self { account, name: name.to_owned(), client: OnceCell::new() }
    }

    /// A client that tries once: a repeat of what may have been taken is the caller's to mark.
    async fn client(&self) -> Client {
        let shared = configuration(&self.account).await;
        let once = aws_sdk_eventbridge::config::Builder::from(&shared).retry_config(RetryConfig::disabled());
        Client::from_conf(once.build())
    }

    /// Puts an event on the bus; gives the id that EventBridge made.
    ///
    /// # Errors
    /// What AWS said, and whether it is known that it was not taken.
    pub async fn put(&self, entry: &Entry<'_>) -> Result<String, (PortError, bool)> {
        let size = 14 + entry.source.len() + entry.detail_type.len() + entry.detail.len();
        if size > MOST {
            return Err((
                PortError::permanent(format!("an event of {size} bytes, and EventBridge takes {MOST}")),
                true,
            ));
        }
        let client = self.client.get_or_init(|| self.client()).await;
        let time = DateTime::from_secs(entry.time.micros().div_euclid(1_000_000));
        let event = PutEventsRequestEntry::builder()
            .source(entry.source)
            .detail_type(entry.detail_type)
            .detail(entry.detail)
            .time(time)
            .event_bus_name(&self.name);
        let call = "events:PutEvents";
        let sent = client.put_events().entries(event.build()).send().await;
        let answer = sent.map_err(|error| (problem(call, &error), surely_not_done(&error)))?;
        let one = answer.entries().first();
        if let Some(code) = one.and_then(|one| one.error_code()) {
            let reason = format!("{call}: {code} {}", one.and_then(|one| one.error_message()).unwrap_or_default());
            let later = matches!(code, "ThrottlingException" | "InternalFailure" | "InternalException");
            return Err((if later { PortError::transient(reason) } else { PortError::permanent(reason) }, true));
        }
        Ok(one.and_then(|one| one.event_id()).unwrap_or_default().to_owned())
    }
}
