//! Amazon SNS: publishes to one topic.
//!
//! Where AWS differs from the simulator: a topic of the kind FIFO drops a repeat with the same deduplication id for five
//! minutes and then takes it again.

use aws_sdk_sns::Client;
use aws_sdk_sns::config::retry::RetryConfig;
use aws_sdk_sns::types::MessageAttributeValue;
use sakimori_respond::ports::PortError;
use tokio::sync::OnceCell;

use super::problem::{problem, surely_not_done};
use super::{Account, configuration};

/// A topic in an account.
#[derive(Debug)]
pub struct Topic {
    account: Account,
    arn: String,
    client: OnceCell<Client>,
}

/// What is published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Its id: what a FIFO topic tells repeats apart by.
    pub id: &'a str,
    /// One line, at most 100 characters of ASCII.
    pub subject: &'a str,
    /// The message, at most 256 KB.
    pub body: &'a str,
    /// The attribute `severity`, for filters of subscriptions.
    pub severity: &'a str,
    /// The attribute `repeat` says so.
    pub may_be_repeat: bool,
}

impl Topic {
    /// A topic by its ARN; nothing is called yet.
    ///
    /// # Errors
    /// It is no ARN of a topic.
    pub fn new(account: Account, arn: &str) -> Result<Self, String> {
        let parts: Vec<&str> = arn.split(':').collect();
        let [_arn, _partition, "sns", region, _number, name] = parts.as_slice() else {
            return Err(format!("{arn} is no ARN of a topic; expected arn:aws:sns:REGION:ACCOUNT:NAME"));
        };
        if !arn.starts_with("arn:") || name.is_empty() {
            return Err(format!("{arn} is no ARN of a topic"));
        }
        let region = if region.is_empty() { account.region.clone() } else { (*region).to_owned() };
        Ok(Self { account: Account { region, ..account }, arn: arn.to_owned(), client: OnceCell::new() })
    }

    /// A client that tries once: a repeat of what may have arrived is the caller's to mark.
    async fn client(&self) -> Client {
        let shared = configuration(&self.account).await;
        let once = aws_sdk_sns::config::Builder::from(&shared).retry_config(RetryConfig::disabled());
        Client::from_conf(once.build())
    }

    /// Publishes; gives the id that SNS made.
    ///
    /// # Errors
    /// What AWS said, and whether it is known that it was not published.
    pub async fn publish(&self, publication: &Publication<'_>) -> Result<String, (PortError, bool)> {
        let client = self.client.get_or_init(|| self.client()).await;
        let attribute =
            |value: &str| {
                MessageAttributeValue::builder().data_type("String").string_value(value).build().map_err(|error| {
                    (PortError::permanent(format!("make the attributes of the message: {error}")), true)
                })
            };
        let mut call = client
            .publish()
            .topic_arn(&self.arn)
            .subject(publication.subject)
            .message(publication.body)
            .message_attributes("message", attribute(publication.id)?)
            .message_attributes("severity", attribute(publication.severity)?);
        if publication.may_be_repeat {
            call = call.message_attributes("repeat", attribute("may be a repeat")?);
        }
        if self.arn.ends_with(".fifo") {
            call = call.message_group_id("sakimori").message_deduplication_id(publication.id);
        }
        match call.send().await {
            Ok(answer) => Ok(answer.message_id().unwrap_or_default().to_owned()),
            Err(error) => Err((problem("sns:Publish", &error), surely_not_done(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_spoken_to_in_its_own_region() {
        let account = Account { region: "eu-west-1".into(), ..Account::default() };
        let topic = Topic::new(account.clone(), "arn:aws:sns:ap-northeast-1:123456789012:alerts").unwrap();
        assert_eq!(topic.account.region, "ap-northeast-1");
        for bad in ["", "alerts", "arn:aws:sqs:a:1:b", "arn:aws:sns:a:1:", "arn:aws:sns:a:1:b:sub"] {
            assert!(Topic::new(account.clone(), bad).is_err(), "{bad}");
        }
    }
}
