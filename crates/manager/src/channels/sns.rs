//! `sns`: publishes to a topic of Amazon SNS: the words as plain text, for mail and telephones; or, with
//! `settings.body = "json"`, the facts, for programs.
//!
//! A message has at most 256 KB, a subject 100 characters of ASCII. A topic of the kind FIFO tells repeats apart by the
//! message's id for five minutes; others do not, and a repeat is marked in the attributes.

use std::sync::Arc;

use sakimori_cloud::aws::sns::{Publication, Topic};
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::{BoxFuture, PortError};

use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, Setting};

/// Largest message, in bytes, with room for its attributes.
pub const MOST: usize = 256_000;
/// Longest subject, in characters.
pub const MOST_SUBJECT: usize = 100;

/// What it is.
pub const KIND: Kind = Kind {
    id: "sns",
    about: "a message to a topic of Amazon SNS",
    url: Need::Never,
    secret: Need::Never,
    settings: &[
        Setting::must("topic", "ARN of the topic"),
        Setting::may("account", "name of the account in cloud.accounts; the only one where absent"),
        Setting::may("body", "words (where absent) or json"),
    ],
    safety: Safety::Repeatable,
    closes: false,
    findings: None,
    settles: 0,
    rate: (100, 1_200),
    open: |channel, tools| {
        let account = tools.account(channel)?;
        let json = match channel.setting("body") {
            None | Some("words") => false,
            Some("json") => true,
            Some(other) => return Err(format!("settings.body is {other}; expected words or json")),
        };
        let topic = channel.setting("topic").unwrap_or_default();
        Ok(Box::new(Sns { topic: Arc::new(Topic::new(account.clone(), topic)?), json }))
    },
};

struct Sns {
    topic: Arc<Topic>,
    json: bool,
}

impl Receiver for Sns {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let body = if self.json { letter.body.to_owned() } else { letter.doc.plain(MOST) };
            if body.len() > MOST {
                return Err(Failure::Refused(format!("a message of SNS has at most {MOST} bytes")));
            }
            let publication = Publication {
                id: letter.id,
                subject: &subject(&letter.doc.title),
                body: &body,
                severity: letter.severity(),
                may_be_repeat: letter.may_be_repeat,
            };
            match self.topic.publish(&publication).await {
                Ok(id) => Ok(Receipt::called(id, "published")),
                Err((PortError::Permanent { reason }, _)) => Err(Failure::Refused(reason)),
                Err((PortError::Transient { reason, .. }, false)) => Err(Failure::Unknown(reason)),
                Err((PortError::Transient { reason, retry_after }, true)) => {
                    Err(Failure::NotTaken { reason, retry_after })
                }
            }
        })
    }
}

/// A subject as SNS takes it: printable ASCII that does not begin with a space; what is none is left to the body.
pub fn subject(title: &str) -> String {
    let ascii: String = title.chars().filter(|c| matches!(c, ' '..='~')).collect();
    let ascii = ascii.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = ascii.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '[');
    let words: String = words.chars().take(MOST_SUBJECT).collect();
    if words.chars().any(|c| c.is_ascii_alphanumeric()) {
        format!("{}{words}", if words.starts_with('[') { "Sakimori " } else { "" }).chars().take(MOST_SUBJECT).collect()
    } else {
        "Sakimori".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::HOSTILE;
    use super::*;

    #[test]
    fn a_subject_is_short_printable_ascii_and_begins_with_a_letter() {
        assert_eq!(subject("[high] SSH brute force"), "Sakimori [high] SSH brute force");
        assert_eq!(subject("[高] 不正なログイン"), "Sakimori");
        assert_eq!(subject(""), "Sakimori");
        assert_eq!(subject(&"x".repeat(500)).len(), MOST_SUBJECT);
        for hostile in HOSTILE {
            let subject = subject(hostile);
            assert!(subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{subject}");
            assert!(subject.starts_with(|c: char| c.is_ascii_alphanumeric()), "{subject}");
        }
    }
}
