//! A receiver over HTTP/1.1 that keeps what it was sent, answers as its judge says, and fails as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub bytes: usize,
    pub body: Value,
    pub raw: String,
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, body: body.to_string() }
    }
}

/// How it fails next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes the request, and closes the connection without an answer.
    Cut,
    /// It takes the request, and never answers.
    Silent,
    /// It takes nothing, and wants to be left alone for so many seconds.
    Busy(u64),
    /// It takes nothing, and says so with this status.
    Broken(u16),
    /// It does what it should.
    None,
}

type Judge = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A receiver.
#[derive(Clone)]
pub struct Fake {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    judge: Judge,
    seen: Mutex<Vec<Request>>,
    refused: Mutex<Vec<String>>,
    faults: Mutex<VecDeque<Fault>>,
}

impl Fake {
    /// Begins to listen, on a thread of its own, so that it outlives what a test ends.
    pub fn start(judge: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner {
            judge: Box::new(judge),
            seen: Mutex::default(),
            refused: Mutex::default(),
            faults: Mutex::default(),
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let shared = Arc::clone(&inner);
        let thread = std::thread::Builder::new().name("fake".into());
        let served = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    #[expect(clippy::disallowed_methods, reason = "it ends with its thread")]
                    tokio::spawn(serve(Arc::clone(&shared), stream));
                }
            });
        };
        thread.spawn(served).unwrap();
        Self { url: format!("http://{}", receiver.recv().unwrap()), inner }
    }

    /// How it fails, request by request.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.faults.lock().unwrap().extend(faults);
    }

    /// What it was sent, those included that it refused.
    pub fn seen(&self) -> Vec<Request> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// Requests of a method to a path.
    pub fn to(&self, method: &str, path: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|one| one.method == method && one.path == path).collect()
    }

    /// What was refused, and why.
    pub fn refused(&self) -> Vec<String> {
        self.inner.refused.lock().unwrap().clone()
    }
}

async fn serve(inner: Arc<Inner>, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break head;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let raw = String::from_utf8(bytes[head + 4..].to_vec()).unwrap();
    let url = url(&target);
    let request = Request {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        bytes: length,
        body: serde_json::from_str(&raw).unwrap_or(Value::Null),
        raw,
    };
    let fault = inner.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
    let (reply, more) = match fault {
        Fault::Busy(seconds) => {
            (Reply { status: 429, body: "slow down".into() }, format!("retry-after: {seconds}\r\n"))
        }
        Fault::Broken(status) => (Reply { status, body: "broken".into() }, String::new()),
        Fault::Cut | Fault::Silent | Fault::None => {
            let reply = (inner.judge)(&request);
            if reply.status >= 400 || reply.body.contains("\"ok\":false") {
                inner.refused.lock().unwrap().push(reply.body.clone());
            }
            (reply, String::new())
        }
    };
    inner.seen.lock().unwrap().push(request);
    match fault {
        Fault::Cut => return,
        Fault::Silent => std::future::pending::<()>().await,
        _ => {}
    }
    let answer = format!(
        "HTTP/1.1 {} X\r\n{more}content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        reply.status,
        reply.body.len(),
        reply.body
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn url(target: &str) -> reqwest::Url {
    reqwest::Url::parse(&format!("http://x{target}")).unwrap()
}

/// Refuses what is not JSON by its type.
pub fn is_json(request: &Request) -> Result<(), String> {
    let kind = request.headers.get("content-type").map(String::as_str).unwrap_or_default();
    match kind.split(';').next() == Some("application/json") && request.body.is_object() {
        true => Ok(()),
        false => Err(format!("expected a JSON object of the type application/json, found {kind}")),
    }
}

/// Refuses fields that are not known, and those that are missing.
pub fn fields(value: &Value, must: &[&str], may: &[&str], at: &str) -> Result<(), String> {
    let map = value.as_object().ok_or_else(|| format!("{at} is no object"))?;
    for name in map.keys() {
        if !must.contains(&name.as_str()) && !may.contains(&name.as_str()) {
            return Err(format!("{at}.{name} is not known"));
        }
    }
    match must.iter().find(|name| !map.contains_key(**name)) {
        Some(name) => Err(format!("{at}.{name} is missing")),
        None => Ok(()),
    }
}

/// Refuses a text that is none, empty, or too long.
pub fn text(value: &Value, most: usize, at: &str) -> Result<(), String> {
    let text = value.as_str().ok_or_else(|| format!("{at} is no text"))?;
    match text.chars().count() {
        0 => Err(format!("{at} is empty")),
        count if count > most => Err(format!("{at} has {count} characters of {most}")),
        _ => Ok(()),
    }
}

/// A document of Atlassian's format, as its JSON schema has it, as far as we use it and no further.
pub fn adf(document: &Value) -> Result<(), String> {
    fields(document, &["type", "version", "content"], &[], "doc")?;
    if document["type"] != "doc" || document["version"] != json!(1) {
        return Err("doc has another type or version".into());
    }
    for node in document["content"].as_array().ok_or("doc.content is no list")? {
        let inline = node["content"].as_array().cloned().unwrap_or_default();
        match node["type"].as_str().unwrap_or_default() {
            "rule" => fields(node, &["type"], &[], "rule")?,
            "paragraph" => fields(node, &["type", "content"], &[], "paragraph")?,
            "heading" => {
                fields(node, &["type", "content", "attrs"], &[], "heading")?;
                if !(1..=6).contains(&node["attrs"]["level"].as_i64().unwrap_or(0)) {
                    return Err("heading.attrs.level".into());
                }
            }
            "codeBlock" => {
                fields(node, &["type", "content"], &["attrs"], "codeBlock")?;
                if inline.iter().any(|one| one.get("marks").is_some()) {
                    return Err("codeBlock has marks".into());
                }
            }
            other => return Err(format!("no node {other}")),
        }
        for one in &inline {
            fields(one, &["type", "text"], &["marks"], "text")?;
            if one["type"] != "text" || one["text"].as_str().is_none_or(str::is_empty) {
                return Err(format!("text is empty or no text: {one}"));
            }
            for mark in one["marks"].as_array().into_iter().flatten() {
                match mark["type"].as_str() {
                    Some("strong") => fields(mark, &["type"], &[], "strong")?,
                    Some("link") => fields(&mark["attrs"], &["href"], &[], "link.attrs")?,
                    other => return Err(format!("no mark {other:?}")),
                }
            }
        }
    }
    Ok(())
}
