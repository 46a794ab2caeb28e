//! What the manager says of itself: an event of the stream `notices`, or an alert, which `sakimori alerts` lists and
//! playbooks of the wide scope send on like any other.
//!
//! A notice is a row of the outbox, written in the transaction of what it tells of; [`crate::jobs`] makes the event of
//! it. Who writes one bounds how often: a notice about a flood must not be a flood.

use sakimori_model::rule::Severity;
use sakimori_model::{Event, Timestamp, Value, field};
use sakimori_store::control::outbox::{self, Message};
use sakimori_store::control::{Change, ControlError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Kind of their rows, and name of their stream.
pub const STREAM: &str = "notices";

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Slug of what happened: `event.action`, and `rule.id` of an alert.
    pub what: String,
    /// The same in words: `rule.name` of an alert.
    pub title: String,
    /// What it is about; tells notices of one kind and time apart.
    pub about: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// How much it matters, where it is an alert.
    pub severity: Option<Severity>,
}

/// Titles in Japanese of alerts about the platform itself, by their `rule.id`, where no rule's text has them; a probe's are the
/// agent's.
pub const TITLES_JA: &[(&str, &str)] = &[
    ("actions-shed", "アクションの要求が上限を超過"),
    ("api-connections-refused", "API への接続を拒否"),
    ("message-undelivered", "通知を配信できません"),
    ("policy-rollout-halted", "ポリシーの段階的な展開が停止"),
    ("proof-failing", "保護機能の日次検証に失敗"),
    ("waf-without-effect", "WAF での遮断が機能していません"),
    ("way-unsubscribed", "トピックからの受信が停止"),
];

/// Writes a notice in a change.
///
/// # Errors
/// The database failed.
pub async fn put(change: &mut Change, tenant: &str, notice: &Notice, now: Timestamp) -> Result<(), ControlError> {
    let payload = serde_json::to_string(notice).map_err(|error| ControlError::Stored("notice", error.to_string()))?;
    outbox::append(change.connection(), tenant, STREAM, &notice.about, &payload, now).await?;
    Ok(())
}

/// The event of a row; `None` where the row cannot be read.
pub fn event(row: &Message) -> Option<Event> {
    let notice: Notice = serde_json::from_str(&row.payload).ok()?;
    let mut event = Event::new();
    event.set(field::TIMESTAMP, row.created);
    event.set(field::EVENT_MODULE, "sakimori");
    event.set(field::EVENT_ACTION, notice.what.clone());
    event.push(field::EVENT_CATEGORY, "host");
    event.push(field::EVENT_TYPE, "info");
    event.set(field::MESSAGE, format!("{}; {}", notice.message, notice.remedy));
    event.set(field::EVENT_REASON, notice.remedy.clone());
    let Some(severity) = notice.severity else {
        event.set(field::EVENT_KIND, "event");
        event.set(field::EVENT_DATASET, "sakimori.manager");
        return Some(event);
    };
    event.set(field::EVENT_KIND, "alert");
    event.set(field::EVENT_DATASET, "sakimori.alert");
    event.set(field::EVENT_SEVERITY, severity.number());
    event.set(field::RULE_ID, notice.what.clone());
    event.set(field::RULE_NAME, notice.title.clone());
    event.set(field::SAKIMORI_ALERT_ID, id(&notice, row.created));
    event.set(field::SAKIMORI_ALERT_COUNT, Value::Long(1));
    Some(event)
}

/// Of (what, about, time): a row that is sent twice is one alert.
fn id(notice: &Notice, at: Timestamp) -> String {
    let mut digest = Sha256::new();
    for part in [STREAM, &notice.what, &notice.about, &at.micros().to_string()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_happened_and_what_to_do_and_the_same_row_is_the_same_alert() {
        let notice = Notice {
            what: "w".into(),
            title: "T".into(),
            about: "x".into(),
            message: "it happened".into(),
            remedy: "do this".into(),
            severity: Some(Severity::High),
        };
        let row = |notice: &Notice, at| Message {
            tenant: "default".into(),
            sequence: 1,
            kind: STREAM.into(),
            key: "x".into(),
            payload: serde_json::to_string(notice).unwrap(),
            created: Timestamp::from_secs(at),
        };
        let alert = event(&row(&notice, 5)).unwrap();
        assert_eq!(alert.str(field::EVENT_KIND), Some("alert"));
        assert_eq!(alert.str(field::MESSAGE), Some("it happened; do this"));
        assert_eq!((alert.str(field::RULE_ID), alert.long(field::EVENT_SEVERITY)), (Some("w"), Some(75)));
        let id = |event: &Event| event.str(field::SAKIMORI_ALERT_ID).unwrap().to_owned();
        assert_eq!(id(&alert), id(&event(&row(&notice, 5)).unwrap()));
        assert_ne!(id(&alert), id(&event(&row(&notice, 6)).unwrap()));
        assert_eq!(event(&Message { payload: "{}".into(), ..row(&notice, 5) }), None);
        let plain = event(&row(&Notice { severity: None, ..notice }, 5)).unwrap();
        assert_eq!((plain.str(field::EVENT_KIND), plain.str(field::SAKIMORI_ALERT_ID)), (Some("event"), None));
    }
}
