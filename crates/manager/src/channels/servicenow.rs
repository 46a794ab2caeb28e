//! `servicenow`: an incident in ServiceNow (Table API), resolved when all that it tells of is closed here. The secret is the
//! password of `settings.user`, who needs the role `itil`; without a user it is sent as a bearer token.
//!
//! Exactly once: the message's id is the incident's `correlation_id`, which is looked for first where an earlier try may have
//! arrived. Short descriptions have 160 characters, descriptions 4,000.

use reqwest::{Method, RequestBuilder};
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::clock::SharedClock;
use serde_json::{Value, json};

use super::doc::{chars, plain};
use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, Setting, http};

/// Longest short description, in characters.
pub const MOST_SHORT: usize = 160;
/// Longest description, in characters.
pub const MOST_DESCRIPTION: usize = 4_000;

/// What it is.
pub const KIND: Kind = Kind {
    id: "servicenow",
    about: "an incident in ServiceNow, resolved when it is closed here",
    url: Need::Must("address of the instance, https://acme.service-now.com"),
    secret: Need::Must("password of the user, or a token"),
    settings: &[
        Setting::may("user", "whose password it is"),
        Setting::may("assignment_group", "group that gets the incidents"),
        Setting::may("close_code", "code of a resolution; Resolved by caller where absent"),
    ],
    safety: Safety::Keyed,
    closes: true,
    findings: None,
    settles: 0,
    rate: (10, 60),
    open: |channel, tools| {
        let text = |name: &str| channel.setting(name).map(str::to_owned);
        Ok(Box::new(ServiceNow {
            client: tools.client.clone(),
            clock: tools.clock.clone(),
            table: format!("{}/api/now/table/incident", channel.url.trim_end_matches('/')),
            user: text("user"),
            group: text("assignment_group"),
            close_code: text("close_code").unwrap_or_else(|| "Resolved by caller".into()),
        }))
    },
};

struct ServiceNow {
    client: reqwest::Client,
    clock: SharedClock,
    table: String,
    user: Option<String>,
    group: Option<String>,
    close_code: String,
}

impl ServiceNow {
    fn request(&self, method: Method, url: &str, secret: &Key) -> Result<RequestBuilder, Failure> {
        let request = self.client.request(method, url).header("Accept", "application/json");
        let secret = secret.text()?;
        Ok(match &self.user {
            Some(user) => request.basic_auth(user, Some(secret)),
            None => request.bearer_auth(secret),
        })
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Value, Failure> {
        Ok(http::ask("ServiceNow", request, self.clock.now()).await?.good("ServiceNow")?.json())
    }

    /// The incident of a message: its `sys_id` and number.
    async fn find(&self, id: &str, secret: &Key) -> Result<Option<(String, String)>, Failure> {
        let query = [
            ("sysparm_query", format!("correlation_id={}", plain_id(id))),
            ("sysparm_fields", "sys_id,number".to_owned()),
            ("sysparm_limit", "1".to_owned()),
        ];
        let found = match self.ask(self.request(Method::GET, &self.table, secret)?.query(&query)).await {
            // What reads changes nothing.
            Err(Failure::Unknown(reason)) => return Err(Failure::not_taken(reason)),
            found => found?,
        };
        let text = |name: &str| {
            found.pointer(&format!("/result/0/{name}")).and_then(Value::as_str).map(|text| chars(text, 64))
        };
        Ok(text("sys_id").filter(|id| is_id(id)).map(|id| (id, text("number").unwrap_or_default())))
    }
}

impl Receiver for ServiceNow {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            if letter.may_be_repeat
                && let Some((_, number)) = self.find(letter.id, secret).await?
            {
                return Ok(Receipt::called(number, "it is there by an earlier try"));
            }
            let incident = incident(letter, self.group.as_deref())?;
            let made = self.ask(self.request(Method::POST, &self.table, secret)?.json(&incident)).await?;
            let number = made.pointer("/result/number").and_then(Value::as_str).map(|number| chars(number, 64));
            let number = number.ok_or_else(|| Failure::Unknown("ServiceNow gave no number".into()))?;
            Ok(Receipt::called(number, "made"))
        })
    }

    fn close<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let Some((id, number)) = self.find(letter.closes.unwrap_or_default(), secret).await? else {
                return Err(Failure::Refused("its incident is not found".into()));
            };
            let notes = plain(std::slice::from_ref(&letter.doc.head));
            let change = json!({
                "state": "6",
                "close_code": self.close_code,
                "close_notes": chars(&notes, MOST_DESCRIPTION),
            });
            self.ask(self.request(Method::PATCH, &format!("{}/{id}", self.table), secret)?.json(&change)).await?;
            Ok(Receipt::called(number, "resolved"))
        })
    }
}

/// Is it a `sys_id`? It becomes part of a path.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Within an encoded query, in which `^` begins another condition.
fn plain_id(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(100).collect()
}

/// The incident as it is made.
pub fn incident(letter: &Letter<'_>, group: Option<&str>) -> Result<Value, Failure> {
    let fitted = letter.doc.fit(|parts| Some(plain(parts)).filter(|text| text.chars().count() <= MOST_DESCRIPTION));
    let level = match letter.severity() {
        "critical" | "high" => "1",
        "medium" => "2",
        _ => "3",
    };
    let mut incident = json!({
        "short_description": chars(&letter.doc.title, MOST_SHORT),
        "description": fitted.unwrap_or_else(|| chars(&letter.doc.plain(MOST_DESCRIPTION), MOST_DESCRIPTION)),
        "urgency": level,
        "impact": level,
        "category": "security",
        "correlation_id": plain_id(letter.id),
        "correlation_display": "Sakimori",
    });
    if let (Some(group), Some(fields)) = (group, incident.as_object_mut()) {
        fields.insert("assignment_group".into(), json!(group));
    }
    Ok(incident)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    #[test]
    fn an_incident_is_within_its_bounds_and_each_value_on_a_line_of_its_own() {
        let made = letter(&many(20), |letter| incident(letter, Some("SOC")).unwrap());
        let description = made["description"].as_str().unwrap();
        assert!(description.chars().count() <= MOST_DESCRIPTION && description.contains("more; sakimori alerts"));
        assert_eq!((&made["correlation_id"], &made["assignment_group"]), (&json!("m1"), &json!("SOC")));
        for hostile in HOSTILE {
            let made = letter(&facts_with(hostile), |letter| incident(letter, None).unwrap());
            let description = made["description"].as_str().unwrap();
            assert_eq!(description.lines().filter(|line| line.starts_with("User: ")).count(), 1, "{description}");
        }
        assert_eq!(plain_id("a^ORactive=true"), "aORactivetrue");
        assert!(is_id("0123456789abcdef0123456789abcdef") && !is_id("../../x"));
    }
}
