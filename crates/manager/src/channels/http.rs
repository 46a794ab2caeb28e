//! One HTTP request to a receiver, and what its answer means for whether the message is there.

use reqwest::{RequestBuilder, StatusCode};
use sakimori_model::Timestamp;
use serde_json::Value;

use super::Failure;

/// Most bytes of an answer that are read.
const MOST: usize = 64 << 10;
/// Most characters of an answer that are told.
const TOLD: usize = 300;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Its text, at most 64 KiB.
    pub text: String,
    /// How long the receiver wants to be left alone, in seconds.
    pub retry_after: Option<u64>,
}

/// Sends a request and reads its answer.
///
/// # Errors
/// [`Failure::NotTaken`] where no connection came about, [`Failure::Unknown`] where one did and no answer. The URL is in
/// neither: that of a chat's hook is itself a secret.
pub async fn ask(who: &str, request: RequestBuilder, now: Timestamp) -> Result<Answer, Failure> {
    let mut response = request.send().await.map_err(|error| {
        let (connect, builder) = (error.is_connect(), error.is_builder());
        let reason = format!("ask {who}: {}", words(&error.without_url()));
        match (connect, builder) {
            (_, true) => Failure::Refused(reason),
            (true, _) => Failure::not_taken(reason),
            _ => Failure::Unknown(reason),
        }
    })?;
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|value| wait(value.to_str().ok()?, now));
    let mut bytes = Vec::new();
    // The status says what became of the message; the text may be missing.
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MOST {
            bytes.truncate(MOST);
            break;
        }
    }
    Ok(Answer { status, text: String::from_utf8_lossy(&bytes).into_owned(), retry_after })
}

/// An error and its causes, without an address.
fn words(error: &reqwest::Error) -> String {
    let mut out = error.to_string();
    let mut at: &dyn std::error::Error = error;
    while let Some(source) = at.source() {
        out.push_str(": ");
        out.push_str(&source.to_string());
        at = source;
    }
    out
}

/// `Retry-After` (RFC 9110): seconds, or a date.
pub fn wait(value: &str, now: Timestamp) -> Option<u64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (0.0..=86_400.0).contains(&seconds).then(|| seconds.ceil() as u64);
    }
    let at = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    let seconds = at.timestamp().saturating_sub(now.micros().div_euclid(1_000_000));
    u64::try_from(seconds.clamp(0, 86_400)).ok()
}

impl Answer {
    /// Did the receiver take it?
    pub fn is_good(&self) -> bool {
        self.status.is_success()
    }

    /// Its text as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// Status and the beginning of its text, on one line.
    pub fn told(&self) -> String {
        let text: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TOLD).collect();
        match text.trim() {
            "" => self.status.to_string(),
            text => format!("{}: {text}", self.status),
        }
    }

    /// What an answer that is not good means: 429 and what else may go away by itself is tried again, the rest is not. A
    /// receiver that answers with an error of its own says that it did not take it.
    pub fn failure(&self, who: &str) -> Failure {
        let reason = format!("{who} answered {}", self.told());
        if self.status.is_server_error() || matches!(self.status.as_u16(), 408 | 425 | 429) {
            return Failure::NotTaken { reason, retry_after: self.retry_after };
        }
        Failure::Refused(reason)
    }

    /// The answer where it is good.
    ///
    /// # Errors
    /// As [`Answer::failure`].
    pub fn good(self, who: &str) -> Result<Self, Failure> {
        if self.is_good() { Ok(self) } else { Err(self.failure(who)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date_within_a_day() {
        let now = Timestamp::from_secs(784_111_777); // 1994-11-06T08:49:37Z, RFC 9110's example
        assert_eq!(wait("30", now), Some(30));
        assert_eq!(wait("0.2", now), Some(1));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(60));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0));
        for bad in ["", "soon", "-1", "1e300", "NaN"] {
            assert_eq!(wait(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_told_on_one_bounded_line() {
        let answer = Answer {
            status: StatusCode::BAD_REQUEST,
            text: format!("no\r\nway{}", "x".repeat(9_000)),
            retry_after: None,
        };
        assert!(answer.told().starts_with("400 Bad Request: no  wayxxx") && answer.told().len() < 400);
        assert!(matches!(answer.failure("it"), Failure::Refused(_)));
        let busy = Answer { status: StatusCode::TOO_MANY_REQUESTS, retry_after: Some(7), ..answer };
        assert!(matches!(busy.failure("it"), Failure::NotTaken { retry_after: Some(7), .. }));
    }
}
