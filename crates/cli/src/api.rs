//! The client of a manager's API. Where it is and who asks comes from the command line, the environment, or the
//! file that `sakimori up` wrote.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Shared;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What `sakimori up` leaves for the commands that follow; readable by root alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// URL of the manager.
    pub server: String,
    /// API token.
    pub token: String,
    /// Certificate of the CA that the server is to be trusted by, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Access {
    /// The file in a state folder.
    pub fn file(state: &Path) -> PathBuf {
        state.join("cli.toml")
    }

    /// Reads it; `None` where it is absent.
    pub fn load(state: &Path) -> Result<Option<Self>> {
        let path = Self::file(state);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map(Some).with_context(|| format!("cannot understand {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}; are you root?", path.display())),
        }
    }

    /// Writes it, mode 0600.
    pub fn save(&self, state: &Path) -> Result<()> {
        let path = Self::file(state);
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let write = || -> Result<()> {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(toml::to_string(self)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: String,
    tenant: Option<String>,
    client: reqwest::Client,
    feeds: reqwest::Client,
}

impl Api {
    /// As the command line, the environment and the file say.
    pub fn open(shared: &Shared) -> Result<Self> {
        let named = shared.server.is_some() && shared.token.is_some();
        let kept = if named { None } else { Access::load(&shared.state)? };
        let (server, token) = match (shared.server.clone(), shared.token.clone(), &kept) {
            (Some(server), Some(token), _) => (server, token),
            (None, token, Some(kept)) => (kept.server.clone(), token.unwrap_or_else(|| kept.token.clone())),
            // A kept token goes to the server that it is of, and to no other.
            (Some(server), None, Some(kept)) if same(&server, &kept.server) => (server, kept.token.clone()),
            (Some(_), None, _) => {
                bail!("no API token; give --token or SAKIMORI_TOKEN (sakimori token create makes one)")
            }
            (None, _, None) => bail!(
                "no manager is known here; start one with: sudo sakimori up, or give --server and --token \
                 (SAKIMORI_SERVER, SAKIMORI_TOKEN)"
            ),
        };
        Self::new(&Access { server, token, ca: kept.and_then(|kept| kept.ca) }, shared.tenant.clone())
    }

    /// For a known server.
    pub fn new(access: &Access, tenant: Option<String>) -> Result<Self> {
        sakimori_runtime::http::install_crypto();
        let build = |timeout: Duration| -> Result<reqwest::Client> {
            let mut builder = sakimori_runtime::http::builder(timeout);
            if let Some(path) = &access.ca {
                let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                builder = builder.tls_certs_only(vec![reqwest::Certificate::from_pem(&pem)?]);
            }
            Ok(builder.build()?)
        };
        let base = access.server.trim_end_matches('/').to_owned();
        let plain = base.strip_prefix("http://");
        if plain.is_some_and(|host| !loopback(host)) {
            bail!("{base} is not this machine; use https, so that nobody on the way reads the token");
        }
        if plain.is_none() && !base.starts_with("https://") {
            bail!("{base} is no URL of a manager; expected http://127.0.0.1:7600 or https://…");
        }
        Ok(Self {
            base,
            token: access.token.clone(),
            tenant,
            client: build(TIMEOUT)?,
            feeds: build(Duration::from_secs(86_400))?,
        })
    }

    /// URL of the server.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.read(self.request(&self.client, Method::GET, path).query(query)).await
    }

    /// A request with a JSON body.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.read(self.request(&self.client, method, path).json(body)).await
    }

    /// A request with a body of bytes.
    pub async fn bytes(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value> {
        self.read(self.request(&self.client, method, path).body(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.read(self.request(&self.client, Method::DELETE, path)).await
    }

    /// Up to `most` items of a list, page after page.
    pub async fn list(&self, path: &str, query: &[(&str, String)], most: usize) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < most {
            let mut query = query.to_vec();
            query.push(("limit", (most - items.len()).min(1_000).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(path, &query).await?;
            if let Some(found) = page.get_mut("items").and_then(Value::as_array_mut) {
                items.append(found);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        items.truncate(most);
        Ok(items)
    }

    /// A feed of server-sent events.
    pub async fn feed(&self, path: &str, query: &[(&str, String)]) -> Result<reqwest::Response> {
        self.begun(self.request(&self.feeds, Method::GET, path).query(query)).await
    }

    async fn begun(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(problem(response.status().as_u16(), &response.text().await.unwrap_or_default()))
    }

    /// A POST whose answer is read piece by piece.
    pub async fn download(&self, path: &str) -> Result<reqwest::Response> {
        self.begun(self.request(&self.feeds, Method::POST, path)).await
    }

    /// Status of a path that is open to everybody; `None` where nobody answers.
    pub async fn status(&self, path: &str) -> Option<u16> {
        let response = self.client.get(format!("{}{path}", self.base)).timeout(Duration::from_secs(5)).send().await;
        response.ok().map(|response| response.status().as_u16())
    }

    /// What the manager says it lacks, a line each; nothing where it is ready or says nothing.
    pub async fn lacks(&self) -> String {
        let response = self.client.get(format!("{}/readyz", self.base)).timeout(Duration::from_secs(5)).send().await;
        let Ok(response) = response else { return String::new() };
        let said: Value = response.json().await.unwrap_or_default();
        let checks = said.get("checks").and_then(Value::as_array).into_iter().flatten();
        let lacking = checks.filter(|check| check.get("ready") == Some(&Value::Bool(false)));
        let text = |check: &Value, name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        lacking.map(|check| format!("{}: {}\n", text(check, "id"), text(check, "detail"))).collect()
    }

    fn request(&self, client: &reqwest::Client, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        match &self.tenant {
            Some(tenant) => request.header("sakimori-tenant", tenant),
            None => request,
        }
    }

    async fn read(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response.text().await.context("the manager's answer broke off")?;
        if !status.is_success() {
            return Err(problem(status.as_u16(), &text));
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).context("the manager's answer is not understood; are both of one version?")
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        anyhow::anyhow!("no manager answers at {} ({cause}); does it run? sudo sakimori up starts it", self.base)
    }
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Does `host:port/…` name this machine?
fn loopback(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return false;
    }
    let name = match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A problem document as an error for people.
fn problem(status: u16, text: &str) -> anyhow::Error {
    let body: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut out = match word("title") {
        "" => format!("the manager answered {status}"),
        title => title.to_owned(),
    };
    if !word("detail").is_empty() {
        out.push_str(&format!(": {}", word("detail")));
    }
    for fault in body.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
        out.push_str(&format!("\n  {}: {}", part("place"), part("reason")));
    }
    match status {
        401 => {
            out.push_str("\n  give a valid token with --token or SAKIMORI_TOKEN; sudo sakimori up makes one for root")
        }
        403 => out.push_str("\n  use a token of a higher role; sakimori token list shows the roles"),
        _ => {}
    }
    anyhow::anyhow!(out)
}

/// A part of a path.
pub fn part(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_goes_in_the_clear_to_another_machine() {
        let access = |server: &str| Access { server: server.into(), token: "t".into(), ca: None };
        for fine in ["http://127.0.0.1:7600", "http://localhost:1/", "http://[::1]:7600", "https://manager.example"] {
            assert!(Api::new(&access(fine), None).is_ok(), "{fine}");
        }
        for bad in
            ["http://192.0.2.1:7600", "http://127.0.0.1@evil.example", "http://localhost.example", "ftp://x", "x"]
        {
            assert!(Api::new(&access(bad), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_problem_names_every_fault() {
        let text = r#"{"title":"The policy cannot be used","detail":"d","errors":[{"place":"p","reason":"r"}]}"#;
        assert_eq!(problem(422, text).to_string(), "The policy cannot be used: d\n  p: r");
        assert!(problem(502, "<html>").to_string().contains("502"));
    }
}
