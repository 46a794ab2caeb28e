//! A browser of our own: keeps cookies, says where it comes from, and sends the token of its session with changes.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::support::{Answer, World};

pub struct Browser<'a> {
    world: &'a World,
    client: reqwest::Client,
    pub jar: BTreeMap<String, String>,
    pub csrf: String,
    pub origin: String,
}

impl<'a> Browser<'a> {
    pub fn new(world: &'a World) -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60));
        let client = client.redirect(reqwest::redirect::Policy::none()).user_agent("a browser").build().unwrap();
        Self { world, client, jar: BTreeMap::new(), csrf: String::new(), origin: world.url("") }
    }

    /// Sends what a page of ours would send.
    pub async fn send(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("origin", self.origin.clone()), ("sec-fetch-site", "same-origin".into())];
        let csrf = [("sakimori-csrf", self.csrf.clone())];
        self.send_with(method, path, body, &[&headers[..], &csrf[..]].concat()).await
    }

    /// Sends with its cookies, and these headers alone.
    pub async fn send_with(&mut self, method: &str, path: &str, body: &Value, headers: &[(&str, String)]) -> Answer {
        let mut request = self.client.request(method.parse::<Method>().unwrap(), self.world.url(path));
        if !self.jar.is_empty() {
            let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        for set in headers.get_all(header::SET_COOKIE) {
            let set = set.to_str().unwrap();
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            if set.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// Signs in by name and password.
    pub async fn sign_in(&mut self, name: &str, password: &str, code: Option<&str>) -> Answer {
        let body = json!({"name": name, "password": password, "browser": true, "code": code});
        let answer = self.send("POST", "/api/v1/session", &body).await;
        if answer.status == StatusCode::CREATED {
            self.csrf = answer.body["csrf"].as_str().unwrap().to_owned();
        }
        answer
    }

    /// What `GET /session` says.
    pub async fn who(&mut self) -> Answer {
        let answer = self.send("GET", "/api/v1/session", &Value::Null).await;
        if let Some(csrf) = answer.body["csrf"].as_str() {
            self.csrf = csrf.to_owned();
        }
        answer
    }
}

/// Status and code of an answer.
pub fn told(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}
