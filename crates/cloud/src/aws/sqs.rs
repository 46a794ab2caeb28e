//! A queue of Amazon SQS: messages are received by long polls, and deleted once somebody says that they are kept.
//!
//! Where AWS differs from a simple queue: a message comes at least once, and again after the queue's visibility time-out where
//! it was not deleted; it may come twice at the same time; order is not kept; a long poll may come back empty while messages
//! are there; deleting what is gone is no error.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};
use sakimori_respond::ports::PortError;

use super::problem::problem;
use super::{Account, configuration};

/// How long a poll waits for a message, in seconds: the most that SQS allows.
pub const WAIT_SECONDS: i32 = 20;
/// Most messages of one poll: the most that SQS allows.
pub const TOGETHER: i32 = 10;

/// How long one call may take: a poll, and what the network adds.
const POLL: Duration = Duration::from_secs(30);

/// What reading a queue needs, as IAM writes it.
pub const PERMISSIONS: &[&str] = &["sqs:ReceiveMessage", "sqs:DeleteMessage"];

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id: the same in every delivery.
    pub id: String,
    /// What deletes it; another in every delivery.
    pub receipt: String,
    /// What was sent.
    pub body: String,
    /// How often it came, this time included; 0 where the queue does not say.
    pub count: u32,
}

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// A queue by its URL, as an account. Nothing is called yet.
    ///
    /// # Errors
    /// An account that cannot be used as it is written.
    pub async fn open(account: &Account, url: &str) -> Result<Self, PortError> {
        if account.region.is_empty() {
            return Err(PortError::permanent("cloud.accounts.<name>.region is missing, like ap-northeast-1"));
        }
        // A poll waits longer than other calls may take.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(POLL)
            .operation_timeout(2 * POLL)
            .build();
        let shared = configuration(account).await;
        let config = aws_sdk_sqs::config::Builder::from(&shared).timeout_config(timeouts).build();
        Ok(Self { client: Client::from_conf(config), url: url.to_owned() })
    }

    /// Waits for messages; none may come. `wait` is at most [`WAIT_SECONDS`].
    ///
    /// # Errors
    /// The call failed.
    pub async fn receive(&self, wait: Duration) -> Result<Vec<Message>, PortError> {
        let seconds = i32::try_from(wait.as_secs()).unwrap_or(WAIT_SECONDS).min(WAIT_SECONDS);
        let asked = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(TOGETHER)
            .wait_time_seconds(seconds)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let answer = asked.send().await.map_err(|error| problem("sqs:ReceiveMessage", &error))?;
        let read = |message: aws_sdk_sqs::types::Message| {
            let count = message
                .attributes
                .as_ref()
                .and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse().ok());
            Some(Message {
                id: message.message_id?,
                receipt: message.receipt_handle?,
                body: message.body.unwrap_or_default(),
                count: count.unwrap_or(0),
            })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(read).collect())
    }

    /// Deletes messages that are kept elsewhere; gives back those that could not be deleted, which come again.
    ///
    /// # Errors
    /// The call failed: all come again.
    pub async fn delete(&self, receipts: &[String]) -> Result<usize, PortError> {
        let mut left = 0;
        for portion in receipts.chunks(usize::try_from(TOGETHER).unwrap_or(1)) {
            let mut asked = self.client.delete_message_batch().queue_url(&self.url);
            for (at, receipt) in portion.iter().enumerate() {
                let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt);
                let entry = entry.build().map_err(|error| PortError::permanent(error.to_string()))?;
                asked = asked.entries(entry);
            }
            let answer = asked.send().await.map_err(|error| problem("sqs:DeleteMessage", &error))?;
            left += answer.failed.len();
        }
        Ok(left)
    }
}
