//! The envelope in which Amazon SNS hands a message on: what it says, and the text that its signature covers.
//!
//! Parsing is all that happens here. Whether the signature is right, whose certificate made it and whether the topic is
//! ours is asked by who received it.

use serde::{Deserialize, Serialize};

/// Longest envelope, in bytes: a message of 256 KiB whose text was escaped, with its head.
pub const MAX_ENVELOPE: usize = 1 << 20;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Something was published.
    Notification,
    /// Somebody subscribed this address to a topic, and it is asked whether that is right.
    SubscriptionConfirmation,
    /// The subscription is over.
    UnsubscribeConfirmation,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        }
    }
}

/// An envelope, as its sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Envelope {
    /// What kind.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// The message's id: the same in every delivery.
    pub message_id: String,
    /// The topic's ARN.
    pub topic_arn: String,
    /// What was published.
    pub message: String,
    /// When, as RFC 3339.
    pub timestamp: String,
    /// Its subject, where it has one.
    #[serde(default)]
    pub subject: Option<String>,
    /// `1` (SHA-1) or `2` (SHA-256).
    #[serde(default)]
    pub signature_version: String,
    /// RSA PKCS#1 v1.5, base64.
    #[serde(default)]
    pub signature: String,
    /// Where the certificate of the signature lies.
    #[serde(default, rename = "SigningCertURL")]
    pub signing_cert_url: String,
    /// What confirms the subscription.
    #[serde(default, rename = "SubscribeURL")]
    pub subscribe_url: Option<String>,
    /// Of a confirmation.
    #[serde(default)]
    pub token: Option<String>,
}

impl Envelope {
    /// Reads one.
    ///
    /// # Errors
    /// What is missing or too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(format!("an envelope has at most {MAX_ENVELOPE} bytes"));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("this is no message of SNS: {error}"))
    }

    /// The text that the signature covers: names and values a line each, in the order that Amazon documents.
    pub fn signed_text(&self) -> String {
        let mut text = String::with_capacity(self.message.len() + 512);
        let mut say = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                for part in [name, "\n", value, "\n"] {
                    text.push_str(part);
                }
            }
        };
        say("Message", Some(&self.message));
        say("MessageId", Some(&self.message_id));
        if self.kind == Kind::Notification {
            say("Subject", self.subject.as_deref());
        } else {
            say("SubscribeURL", self.subscribe_url.as_deref());
        }
        say("Timestamp", Some(&self.timestamp));
        if self.kind != Kind::Notification {
            say("Token", self.token.as_deref());
        }
        say("TopicArn", Some(&self.topic_arn));
        say("Type", Some(self.kind.name()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_has_the_documented_fields_in_their_order() {
        let mut envelope = Envelope::parse(
            br#"{"Type":"Notification","MessageId":"m","TopicArn":"t","Message":"hello","Timestamp":"now","Subject":"s","Extra":1}"#,
        )
        .unwrap();
        assert_eq!(
            envelope.signed_text(),
            "Message\nhello\nMessageId\nm\nSubject\ns\nTimestamp\nnow\nTopicArn\nt\nType\nNotification\n"
        );
        envelope.subject = None;
        assert!(!envelope.signed_text().contains("Subject"));
        envelope.kind = Kind::SubscriptionConfirmation;
        (envelope.subscribe_url, envelope.token) = (Some("u".into()), Some("k".into()));
        assert_eq!(
            envelope.signed_text(),
            "Message\nhello\nMessageId\nm\nSubscribeURL\nu\nTimestamp\nnow\nToken\nk\nTopicArn\nt\nType\nSubscriptionConfirmation\n"
        );
    }

    #[test]
    fn what_is_no_envelope_says_what_it_lacks() {
        for (bad, reason) in [(&b"{}"[..], "Type"), (b"[]", "SNS"), (br#"{"Type":"Other"}"#, "Other")] {
            assert!(Envelope::parse(bad).unwrap_err().contains(reason));
        }
        assert!(Envelope::parse(&vec![b' '; MAX_ENVELOPE + 1]).unwrap_err().contains("at most"));
    }
}
