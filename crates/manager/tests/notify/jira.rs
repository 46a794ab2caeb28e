//! Jira Cloud, after its REST API v3: issues, search by JQL, comments, transitions.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::fake::{Fake, Fault, Reply, Request, adf, fields, is_json, text};
use super::site::{Site, channel, secret};

/// Issues, each with its comments and whether it is done.
type Issues = Arc<Mutex<Vec<(Value, Vec<Value>, bool)>>>;

fn wrong(reason: &str) -> Reply {
    Reply::json(400, json!({"errorMessages": [reason], "errors": {}}))
}

fn jira(request: &Request, issues: &Issues) -> Result<Reply, String> {
    // ann@example.com:token-of-ann
    if request.headers.get("authorization").map(String::as_str)
        != Some("Basic YW5uQGV4YW1wbGUuY29tOnRva2VuLW9mLWFubg==")
    {
        return Ok(Reply::json(401, json!({"errorMessages": ["Client must be authenticated"]})));
    }
    let mut issues = issues.lock().unwrap();
    let path = request.path.strip_prefix("/rest/api/3/").ok_or("no such path")?;
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["issue"]) => {
            is_json(request)?;
            fields(&request.body, &["fields"], &["properties", "update"], "issue")?;
            let of = &request.body["fields"];
            fields(of, &["project", "issuetype", "summary"], &["description", "labels", "priority"], "fields")?;
            text(&of["summary"], 255, "summary")?;
            if of["summary"].as_str().unwrap().contains(['\n', '\r']) || of["project"]["key"] != "SEC" {
                return Err("The summary is invalid because it contains newline characters".into());
            }
            adf(&of["description"])?;
            if of["description"].to_string().chars().count() > 32_767 {
                return Err("description is too long".into());
            }
            let spaces = |label: &Value| label.as_str().is_none_or(|label| label.contains(' ') || label.len() > 255);
            if of["labels"].as_array().into_iter().flatten().any(spaces) {
                return Err("The label can't contain spaces".into());
            }
            let key = format!("SEC-{}", issues.len() + 1);
            issues.push((of.clone(), Vec::new(), false));
            Ok(Reply::json(201, json!({"id": "10000", "key": key, "self": "https://x.example/rest/api/3/issue/10000"})))
        }
        ("POST", ["search", "jql"]) => {
            is_json(request)?;
            fields(&request.body, &["jql"], &["maxResults", "fields", "nextPageToken", "expand"], "search")?;
            let jql = request.body["jql"].as_str().unwrap();
            let label = jql
                .strip_prefix("project = \"SEC\" AND labels = \"")
                .and_then(|rest| rest.strip_suffix('"'))
                .ok_or("jql")?;
            let has = |of: &Value| of["labels"].as_array().unwrap().iter().any(|one| one == label);
            let found: Vec<Value> = issues
                .iter()
                .enumerate()
                .filter(|(_, (of, ..))| has(of))
                .map(|(at, _)| json!({"id": "10000", "key": format!("SEC-{}", at + 1)}))
                .collect();
            Ok(Reply::json(200, json!({"issues": found, "isLast": true})))
        }
        (method, ["issue", key, rest @ ..]) => {
            let at: usize = key.strip_prefix("SEC-").and_then(|text| text.parse().ok()).ok_or("no issue")?;
            let (_, comments, done) = issues.get_mut(at - 1).ok_or("Issue does not exist")?;
            match (method, rest) {
                ("GET", ["comment"]) => Ok(Reply::json(200, json!({ "comments": comments }))),
                ("POST", ["comment"]) => {
                    is_json(request)?;
                    fields(&request.body, &["body"], &["visibility"], "comment")?;
                    adf(&request.body["body"])?;
                    comments.push(request.body.clone());
                    Ok(Reply::json(201, json!({"id": "1"})))
                }
                ("GET", []) => {
                    let category = if *done { "done" } else { "new" };
                    Ok(Reply::json(200, json!({"fields": {"status": {"statusCategory": {"key": category}}}})))
                }
                ("GET", ["transitions"]) => {
                    Ok(Reply::json(200, json!({"transitions": [{"id": "31", "name": "Done"}]})))
                }
                ("POST", ["transitions"]) => {
                    fields(&request.body, &["transition"], &["fields", "update"], "transition")?;
                    if request.body["transition"]["id"] != "31" || *done {
                        return Err("It seems that you have tried to perform an illegal workflow operation".into());
                    }
                    *done = true;
                    Ok(Reply { status: 204, body: String::new() })
                }
                other => Err(format!("{other:?}")),
            }
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn an_issue_of_unknown_outcome_is_there_once_and_is_commented_and_moved_once_when_it_is_closed_here() {
    let dir = tempfile::tempdir().unwrap();
    let issues = Issues::default();
    let held = Arc::clone(&issues);
    let fake = Fake::start(move |request| jira(request, &held).unwrap_or_else(|reason| wrong(&reason)));
    let settings = [("project", "SEC"), ("user", "ann@example.com"), ("close_transition", "Done")];
    let mut ops = channel("jira", &fake.url, &settings);
    ops.secret_file = secret(dir.path(), "token-of-ann");
    let mut site = Site::start(dir.path(), vec![ops]);
    fake.fail([Fault::Cut]);
    let alert = site.alert();
    let id = site.tell(&alert, &[]);
    let message = site.sent(&id);
    assert_eq!(fake.refused(), [] as [String; 0]);
    assert_eq!((issues.lock().unwrap().len(), message.reference.as_str()), (1, "SEC-1"), "looked for, not made again");
    let tries = site.tries(&message);
    assert!(tries[1].began - tries[0].ended.unwrap() >= 30_000_000, "when its search surely has it");
    // The comment arrives and nobody hears of it; then the transition likewise.
    fake.fail([Fault::None, Fault::Cut, Fault::None, Fault::None, Fault::None, Fault::Cut]);
    let closed = site.close(&alert, &id);
    let (_, comments, done) = issues.lock().unwrap()[0].clone();
    assert_eq!((comments.len(), done), (1, true), "{:?}", site.tries(&closed));
    assert_eq!(fake.refused(), [] as [String; 0]);
    assert_eq!(fake.to("POST", "/rest/api/3/issue").len(), 1);
    site.stop();
}
