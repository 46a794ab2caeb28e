//! A proxy before the AWS endpoint, for tests: it writes down which operations are called, sends each to the simulator or to
//! the fake, and can be told to do harm: to throttle, to fail, to lose an answer after the call was carried out, to answer a
//! read as before the last change, to claim a lost race for a lock. Which harm comes when follows from a seed alone.
//!
//! Reusable: `mod wire;` and [`Wire::start`]; an account's `endpoint_url` is [`Wire::url`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Largest body that is passed on.
const MAX_BODY: u64 = 4 << 20;

/// One call as it came over the wire.
#[derive(Clone, Debug)]
pub struct Call {
    /// Service by its signing name: `iam`.
    pub service: String,
    /// Operation by its name in the API: `GetUser`.
    pub operation: String,
    /// When it came.
    pub at: Instant,
    /// What harm was done to it.
    pub harm: Option<Harm>,
}

/// What may be done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Refused as too many; not carried out.
    Throttle,
    /// An error of the server; not carried out.
    Broken,
    /// Carried out, and the answer is lost: the connection ends.
    Silent,
    /// A read answers as it did before.
    Stale,
    /// A change is told that its lock token is not the newest; not carried out.
    LostLock,
}

/// Every kind of harm.
pub const HARMS: [Harm; 5] = [Harm::Throttle, Harm::Broken, Harm::Silent, Harm::Stale, Harm::LostLock];

/// How much harm, and which.
#[derive(Clone, Copy, Debug)]
pub struct Harmful {
    /// Of a hundred calls so many.
    pub percent: u64,
    /// From which all follows.
    pub seed: u64,
}

/// The proxy.
pub struct Wire {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    routes: Vec<(&'static str, String)>,
    upstream: String,
    calls: Mutex<Vec<Call>>,
    harmful: Mutex<Option<(Harmful, u64)>>,
    /// The last answers to reads, by the request.
    before: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    over: AtomicBool,
}

struct Request {
    head: String,
    body: Vec<u8>,
    service: String,
    operation: String,
}

impl Wire {
    /// Passes on to `upstream` (`127.0.0.1:5000`), but operations of `routes` (`codepipeline:*`, `iam:GetUser`) to theirs.
    pub fn start(upstream: &str, routes: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            routes,
            upstream: upstream.to_owned(),
            calls: Mutex::default(),
            harmful: Mutex::default(),
            before: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let accept = move || {
            for stream in listener.incoming() {
                if accepting.over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), serving) = (stream, Arc::clone(&accepting)) else { continue };
                std::thread::Builder::new().name("wire".into()).spawn(move || drop(serving.serve(stream))).unwrap();
            }
        };
        std::thread::Builder::new().name("wires".into()).spawn(accept).unwrap();
        Self { url: format!("http://{address}"), shared }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Does harm from now on, or no more.
    pub fn harm(&self, harmful: Option<Harmful>) {
        *self.shared.harmful.lock().unwrap() = harmful.map(|harmful| (harmful, harmful.seed));
    }

    /// What was called since the last question.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.calls.lock().unwrap())
    }

    /// Counts these as called, before what is called from now on.
    pub fn put_back(&self, calls: Vec<Call>) {
        *self.shared.calls.lock().unwrap() = calls;
    }

    /// The rights that what was called since the last question needs.
    pub fn rights(&self) -> BTreeSet<String> {
        self.calls().iter().map(|call| right(&call.service, &call.operation)).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
    }
}

/// The right that an operation needs, as IAM writes it. Few are not named as their operation.
pub fn right(service: &str, operation: &str) -> String {
    let named = match (service, operation) {
        ("s3", "GetPublicAccessBlock") => "GetBucketPublicAccessBlock",
        ("s3", "PutPublicAccessBlock" | "DeletePublicAccessBlock") => "PutBucketPublicAccessBlock",
        (_, operation) => operation,
    };
    format!("{service}:{named}")
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let Some(request) = read(&stream)? else { return Ok(()) };
        let harm = self.next_harm(&request);
        let Request { service, operation, .. } = &request;
        let (service, operation) = (service.clone(), operation.clone());
        self.calls.lock().unwrap().push(Call { service, operation, at: Instant::now(), harm });
        let json = request.head.to_ascii_lowercase().contains("x-amz-target");
        match harm {
            Some(Harm::Throttle) => return stream.write_all(&refusal(json, 400, "ThrottlingException")),
            Some(Harm::Broken) => return stream.write_all(&refusal(json, 500, "InternalFailure")),
            Some(Harm::LostLock) => return stream.write_all(&refusal(json, 400, "WAFOptimisticLockException")),
            _ => {}
        }
        let key = [request.operation.as_bytes(), &request.body].concat();
        if harm == Some(Harm::Stale)
            && let Some(before) = self.before.lock().unwrap().get(&key)
        {
            return stream.write_all(before);
        }
        let answer = self.pass_on(&request)?;
        if reads(&request.operation) {
            self.before.lock().unwrap().insert(key, answer.clone());
        }
        match harm {
            Some(Harm::Silent) => Ok(()),
            _ => stream.write_all(&answer),
        }
    }

    fn next_harm(&self, request: &Request) -> Option<Harm> {
        let mut harmful = self.harmful.lock().unwrap();
        let (how, state) = harmful.as_mut()?;
        if random(state) % 100 >= how.percent {
            return None;
        }
        let possible = HARMS.iter().filter(|harm| match harm {
            Harm::Stale => reads(&request.operation),
            Harm::LostLock => memchr(&request.body, b"\"LockToken\""),
            _ => true,
        });
        let possible: Vec<&Harm> = possible.collect();
        let at = usize::try_from(random(state)).unwrap_or(0) % possible.len();
        Some(*possible[at])
    }

    fn pass_on(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let (all, one) = (format!("{}:*", request.service), format!("{}:{}", request.service, request.operation));
        let route = self.routes.iter().find(|(name, _)| *name == all || *name == one);
        let mut upstream = TcpStream::connect(route.map_or(&self.upstream, |(_, address)| address))?;
        upstream.set_read_timeout(Some(Duration::from_secs(60)))?;
        upstream.write_all(request.head.as_bytes())?;
        upstream.write_all(&request.body)?;
        let mut answer = Vec::new();
        upstream.take(MAX_BODY).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// One request; its head is made to ask for an end after the answer.
fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream.take(MAX_BODY));
    let (mut head, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "connection" => continue,
            "expect" => {
                (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                continue;
            }
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let service = after(&head, "Credential=").and_then(|text| text.split('/').nth(3)).unwrap_or_default().to_owned();
    let operation = operation(&head, &service, &body);
    head.push_str("Connection: close\r\n\r\n");
    Ok(Some(Request { head, body, service, operation }))
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest.lines().next().unwrap_or_default())
}

/// The operation: named by a header, by a parameter, or by method and path.
fn operation(head: &str, service: &str, body: &[u8]) -> String {
    let target = head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-amz-target:"));
    if let Some((_, name)) = target.and_then(|line| line.trim().rsplit_once('.')) {
        return name.to_owned();
    }
    let form = String::from_utf8_lossy(body);
    if let Some(name) = form.split('&').find_map(|one| one.strip_prefix("Action=")) {
        return name.to_owned();
    }
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let verb = match method {
        "GET" => "Get",
        "PUT" => "Put",
        "DELETE" => "Delete",
        other => other,
    };
    let named = match service {
        "s3" if path.contains("publicAccessBlock") => Some("PublicAccessBlock"),
        "s3" if path.contains("policy") => Some("BucketPolicy"),
        "lambda" if path.ends_with("/concurrency") => Some("FunctionConcurrency"),
        _ => None,
    };
    named.map_or_else(|| format!("{method} {path}"), |named| format!("{verb}{named}"))
}

fn reads(operation: &str) -> bool {
    ["Get", "List", "Describe"].iter().any(|verb| operation.starts_with(verb))
}

fn memchr(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

fn refusal(json: bool, status: u16, code: &str) -> Vec<u8> {
    let (kind, body) = match json {
        true => ("application/x-amz-json-1.1", format!("{{\"__type\":\"{code}\",\"message\":\"harm\"}}")),
        false => ("text/xml", format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>")),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Harm\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Steele and Vigna's SplitMix64: small, and the same everywhere.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
