//! Links by which people answer the questions of executions from a chat or a mail: signed, for one question, and good until
//! its time is up. A link only shows the question; the answer is a second step, since programs that look at messages follow
//! links.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use sakimori_model::Timestamp;
use sakimori_respond::execution::ASK;
use sakimori_store::control::actions::Job;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::shared::Shared;

/// What the signature is over, before the question: no seal of another kind fits.
const PURPOSE: &[u8] = b"sakimori answer to a question\0";
/// Longest link's end, in bytes.
const MAX: usize = 2_048;

/// Which question a link is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Whose.
    #[serde(rename = "t")]
    pub tenant: String,
    /// The execution.
    #[serde(rename = "e")]
    pub execution: String,
    /// Its step.
    #[serde(rename = "s")]
    pub step: String,
    /// The channel that was asked.
    #[serde(rename = "c")]
    pub channel: String,
    /// Until when, in microseconds.
    #[serde(rename = "u")]
    pub until: i64,
}

impl Asked {
    /// The end of the link.
    pub fn token(&self, key: &SigningKey) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let signature = key.sign(&[PURPOSE, &bytes].concat());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(bytes), URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// What a link is about; `None` where it is forged, changed or late.
    pub fn read(token: &str, key: &SigningKey, now: Timestamp) -> Option<Self> {
        if token.len() > MAX {
            return None;
        }
        let (bytes, signature) = token.split_once('.')?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?;
        let signature: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
        let signed = [PURPOSE, &bytes].concat();
        key.verifying_key().verify_strict(&signed, &Signature::from_bytes(&signature)).ok()?;
        let asked: Self = serde_json::from_slice(&bytes).ok()?;
        (asked.until >= now.micros()).then_some(asked)
    }
}

/// What a message asks, where it asks something: the question, and the ways to answer it.
pub fn ask(shared: &Shared, job: &Job) -> Option<Value> {
    let order = &job.action.order;
    let asked: Value = serde_json::from_str(order.inputs.get(ASK)?).ok()?;
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let until = text("until").parse::<DateTime<Utc>>().ok().map(Timestamp::from)?;
    let about = Asked {
        tenant: job.tenant.clone(),
        execution: text("execution"),
        step: text("step"),
        channel: order.target.to_string(),
        until: until.micros(),
    };
    // All who have a link are one person: where several are asked, each answers by name.
    let one = asked.get("persons").and_then(Value::as_u64).unwrap_or(1) <= 1;
    let url = shared.config.api.public_url.as_ref().filter(|_| one);
    let url = url.map(|base| format!("{}/answer/{}", base.trim_end_matches('/'), about.token(&shared.order_key)));
    Some(json!({
        "playbook": text("playbook"),
        "title_en": text("title_en"),
        "title_ja": text("title_ja"),
        "question_en": text("en"),
        "question_ja": text("ja"),
        "url": url,
        "allow_command": format!("sakimori playbook approve {} --step '{}'", about.execution, about.step),
        "deny_command": format!("sakimori playbook deny {} --step '{}'", about.execution, about.step),
        "until": text("until"),
        "otherwise": asked.get("otherwise"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_its_question_and_its_time() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let asked = Asked {
            tenant: "default".into(),
            execution: "e".into(),
            step: "0!limit".into(),
            channel: "ops".into(),
            until: 1_000,
        };
        let token = asked.token(&key);
        let at = Timestamp::from_micros;
        assert_eq!(Asked::read(&token, &key, at(1_000)), Some(asked.clone()));
        assert_eq!(Asked::read(&token, &key, at(1_001)), None, "late");
        assert_eq!(Asked::read(&token, &SigningKey::from_bytes(&[8; 32]), at(0)), None);
        let other = Asked { step: "1".into(), ..asked }.token(&key);
        let (body, _) = other.split_once('.').unwrap();
        let (_, signature) = token.split_once('.').unwrap();
        for forged in [format!("{body}.{signature}"), "x.y".into(), String::new(), "a".repeat(5_000)] {
            assert_eq!(Asked::read(&forged, &key, at(0)), None, "{forged:.20}");
        }
    }
}
