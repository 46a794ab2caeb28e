//! A client of the public API for demo and measurements. It may live in a network namespace: every request runs
//! on a thread there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_sys::lab::Lab;
use serde_json::{Value, json};

/// Where the API is and who asks.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: String,
    within: Option<(Arc<Lab>, String)>,
}

impl Api {
    /// A client that is not logged in.
    pub fn new(base: &str, within: Option<(Arc<Lab>, String)>) -> Self {
        Self { base: base.to_owned(), token: String::new(), within }
    }

    /// Logs in.
    ///
    /// # Errors
    /// What the API said.
    pub fn login(&mut self, name: &str, password: &str) -> Result<()> {
        let answer = self.call("POST", "/api/v1/session", Some(json!({"name": name, "password": password})))?;
        let token = answer.get("token").and_then(Value::as_str).context("the session has no token")?;
        self.token = token.to_owned();
        Ok(())
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// What the API said.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None)
    }

    /// Any request with a JSON body.
    ///
    /// # Errors
    /// What the API said.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (status, text) = self.raw(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn raw(&self, method: &str, path: &str, body: Option<Value>) -> Result<(u16, String)> {
        let ask = || -> Result<(u16, String)> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = sakimori_runtime::http::client(Duration::from_secs(20))?;
                let method: reqwest::Method = method.parse()?;
                let mut request = client.request(method, format!("{}{path}", self.base));
                if !self.token.is_empty() {
                    request = request.bearer_auth(&self.token);
                }
                if let Some(body) = body {
                    request = request.json(&body);
                }
                let answer = request.send().await?;
                Ok((answer.status().as_u16(), answer.text().await?))
            })
        };
        match &self.within {
            Some((lab, namespace)) => lab.inside(namespace, ask)?,
            None => ask(),
        }
    }

    /// Waits until the manager answers that it is ready.
    ///
    /// # Errors
    /// It did not in time.
    pub fn ready(&self, patience: Duration) -> Result<()> {
        wait("the manager is ready", patience, || {
            self.raw("GET", "/readyz", None).is_ok_and(|(status, _)| status == 200)
        })
        .map(|_| ())
    }

    /// Events that a search finds, newest first, at most 1,000.
    ///
    /// # Errors
    /// What the API said.
    pub fn search(&self, query: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/api/v1/events?limit=1000&q={}", encode(query)))?;
        Ok(items(&answer))
    }

    /// How many events a search finds.
    ///
    /// # Errors
    /// What the API said.
    pub fn count(&self, query: &str) -> Result<u64> {
        let answer = self.get(&format!("/api/v1/events/count?q={}", encode(query)))?;
        answer.get("count").and_then(Value::as_u64).context("no count in the answer")
    }

    /// Actions, newest first, at most 1,000.
    ///
    /// # Errors
    /// What the API said.
    pub fn actions(&self) -> Result<Vec<Value>> {
        self.get("/api/v1/actions?limit=1000").map(|answer| items(&answer))
    }
}

/// The items of a page.
pub fn items(answer: &Value) -> Vec<Value> {
    answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Polls until a condition holds; says how long that took.
///
/// # Errors
/// It did not in time.
pub fn wait(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Result<Duration> {
    let began = Instant::now();
    loop {
        if condition() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > patience {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
