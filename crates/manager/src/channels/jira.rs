//! `jira`: an issue in Jira Cloud (REST API v3), closed by a comment and, where `settings.close_transition` names one, a
//! transition. The secret is an API token of `settings.user`; without a user it is sent as a bearer token.
//!
//! Exactly once: each issue has a label made of the message's id. Where an earlier try may have arrived, an issue with the
//! label is looked for first, half a minute later, since Jira's search does not find what was made just now. A comment that
//! closes is looked for likewise, and an issue that is done already is not moved.

use reqwest::{Method, RequestBuilder};
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::clock::SharedClock;
use serde_json::{Value, json};

use super::doc::{adf, chars, plain};
use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, Setting, http};

/// Longest summary, in characters.
pub const MOST_SUMMARY: usize = 255;
/// Longest description, in characters of its document.
pub const MOST_DESCRIPTION: usize = 32_767;

/// What it is.
pub const KIND: Kind = Kind {
    id: "jira",
    about: "an issue in Jira Cloud, with a comment when it is closed here",
    url: Need::Must("address of the site, https://acme.atlassian.net"),
    secret: Need::Must("API token"),
    settings: &[
        Setting::must("project", "key of the project"),
        Setting::may("issue_type", "type of the issues; Task where absent"),
        Setting::may("user", "e-mail address of whose token it is"),
        Setting::may("close_transition", "transition that closes an issue, by its name"),
    ],
    safety: Safety::Keyed,
    closes: true,
    findings: None,
    settles: 30,
    rate: (10, 60),
    open: |channel, tools| {
        let text = |name: &str| channel.setting(name).map(str::to_owned);
        Ok(Box::new(Jira {
            client: tools.client.clone(),
            clock: tools.clock.clone(),
            base: channel.url.trim_end_matches('/').to_owned(),
            project: text("project").unwrap_or_default(),
            issue_type: text("issue_type").unwrap_or_else(|| "Task".into()),
            user: text("user"),
            transition: text("close_transition"),
        }))
    },
};

struct Jira {
    client: reqwest::Client,
    clock: SharedClock,
    base: String,
    project: String,
    issue_type: String,
    user: Option<String>,
    transition: Option<String>,
}

impl Jira {
    fn request(&self, method: Method, path: &str, secret: &Key) -> Result<RequestBuilder, Failure> {
        let request = self.client.request(method, format!("{}/rest/api/3/{path}", self.base));
        let request = request.header("Accept", "application/json");
        let token = secret.text()?;
        Ok(match &self.user {
            Some(user) => request.basic_auth(user, Some(token)),
            None => request.bearer_auth(token),
        })
    }

    async fn ask(&self, request: RequestBuilder) -> Result<http::Answer, Failure> {
        http::ask("Jira", request, self.clock.now()).await?.good("Jira")
    }

    /// What reads changes nothing, so that no answer means that nothing was done.
    async fn read(&self, request: RequestBuilder) -> Result<Value, Failure> {
        match self.ask(request).await {
            Ok(answer) => Ok(answer.json()),
            Err(Failure::Unknown(reason)) => Err(Failure::not_taken(reason)),
            Err(failure) => Err(failure),
        }
    }

    /// The issue of a message, where it is there.
    async fn find(&self, id: &str, secret: &Key) -> Result<Option<String>, Failure> {
        let query = json!({
            "jql": format!("project = \"{}\" AND labels = \"{}\"", quoted(&self.project), label(id)),
            "maxResults": 1,
            "fields": ["key"],
        });
        let found = self.read(self.request(Method::POST, "search/jql", secret)?.json(&query)).await?;
        Ok(found.pointer("/issues/0/key").and_then(Value::as_str).map(str::to_owned))
    }

    async fn comment(&self, issue: &str, letter: &Letter<'_>, secret: &Key) -> Result<(), Failure> {
        let path = format!("issue/{issue}/comment");
        let newest = [("orderBy", "-created"), ("maxResults", "50")];
        let known = self.read(self.request(Method::GET, &path, secret)?.query(&newest)).await?;
        // Its text has the id of what tells it.
        if known.get("comments").is_some_and(|comments| comments.to_string().contains(letter.id)) {
            return Ok(());
        }
        let mut parts = vec![letter.doc.head.clone()];
        parts.push(vec![super::doc::Line::Text(format!("Sakimori {}", letter.id))]);
        let body = json!({ "body": adf(&parts) });
        self.ask(self.request(Method::POST, &path, secret)?.json(&body)).await.map(|_| ())
    }

    async fn transition(&self, issue: &str, name: &str, secret: &Key) -> Result<String, Failure> {
        let status = self.request(Method::GET, &format!("issue/{issue}"), secret)?.query(&[("fields", "status")]);
        let status = self.read(status).await?;
        if status.pointer("/fields/status/statusCategory/key").and_then(Value::as_str) == Some("done") {
            return Ok("it is done there".to_owned());
        }
        let path = format!("issue/{issue}/transitions");
        let known = self.read(self.request(Method::GET, &path, secret)?).await?;
        let known = known.get("transitions").and_then(Value::as_array).cloned().unwrap_or_default();
        let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(name);
        let Some(id) = known.iter().find(named).and_then(|one| one.get("id")) else {
            // The comment stands; a person closes it.
            return Ok(format!("{issue} has no transition {name} now"));
        };
        let body = json!({ "transition": { "id": id } });
        self.ask(self.request(Method::POST, &path, secret)?.json(&body)).await?;
        Ok(format!("{name} was carried out"))
    }
}

impl Receiver for Jira {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            if letter.may_be_repeat
                && let Some(key) = self.find(letter.id, secret).await?
            {
                return Ok(Receipt::called(key, "it is there by an earlier try"));
            }
            let issue = issue(letter, &self.project, &self.issue_type)?;
            let answer = self.ask(self.request(Method::POST, "issue", secret)?.json(&issue)).await?;
            let key = answer.json().get("key").and_then(Value::as_str).map(|key| chars(key, 64));
            let key = key.ok_or_else(|| Failure::Unknown(format!("Jira answered {}", answer.told())))?;
            Ok(Receipt::called(key, answer.status.to_string()))
        })
    }

    fn close<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let issue = match letter.reference {
                "" => self.find(letter.closes.unwrap_or_default(), secret).await?,
                known => Some(known.to_owned()),
            };
            let Some(issue) = issue.filter(|key| is_key(key)) else {
                return Err(Failure::Refused("its issue is not found".into()));
            };
            self.comment(&issue, letter, secret).await?;
            let moved = match &self.transition {
                Some(name) => self.transition(&issue, name, secret).await?,
                None => "a comment says so".to_owned(),
            };
            Ok(Receipt::called(issue, moved))
        })
    }
}

/// Is it the key of an issue? It becomes part of a path.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The label of a message: labels have no spaces.
pub fn label(id: &str) -> String {
    let plain: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(80).collect();
    format!("sakimori-{plain}")
}

/// Within a quoted text of JQL.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The issue as it is made.
pub fn issue(letter: &Letter<'_>, project: &str, issue_type: &str) -> Result<Value, Failure> {
    let fitted = letter.doc.fit(|parts| {
        let description = adf(parts);
        (plain(parts).chars().count() <= MOST_DESCRIPTION && description.to_string().len() <= MOST_DESCRIPTION)
            .then_some(description)
    });
    let description = fitted.ok_or_else(|| Failure::Refused("it does not fit into an issue of Jira".into()))?;
    Ok(json!({
        "fields": {
            "project": { "key": project },
            "issuetype": { "name": issue_type },
            "summary": chars(&letter.doc.title, MOST_SUMMARY),
            "description": description,
            "labels": ["sakimori", label(letter.id)],
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    #[test]
    fn an_issue_is_within_its_bounds_and_a_hostile_value_is_a_text_of_it() {
        let made = letter(&many(20), |letter| issue(letter, "SEC", "Task").unwrap());
        assert!(made["fields"]["description"].to_string().len() <= MOST_DESCRIPTION);
        assert_eq!(made["fields"]["labels"][1], "sakimori-m1");
        for hostile in HOSTILE {
            let made = letter(&facts_with(hostile), |letter| issue(letter, "SEC", "Task").unwrap());
            let text = serde_json::to_string(&sakimori_respond::message::line(hostile)).unwrap();
            assert!(made["fields"]["description"].to_string().contains(&format!("\"text\":{text}")), "{hostile}");
            let kinds = made["fields"]["description"].to_string();
            assert!(!kinds.contains("\"mention\"") && !kinds.contains("javascript:\""));
        }
    }

    #[test]
    fn keys_labels_and_queries_take_nothing_else_along() {
        assert!(is_key("SEC-12") && !is_key("") && !is_key("SEC-1/../x") && !is_key("a?b"));
        assert_eq!(label("a b\"/é-1"), "sakimori-ab-1");
        assert_eq!(quoted("a\"b\\"), "a\\\"b\\\\");
    }
}
