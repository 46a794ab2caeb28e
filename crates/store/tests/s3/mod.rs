//! A small store that speaks S3's protocol, for tests: one bucket in memory on a free port. Its conditional put is
//! atomic, and what a client must bear with can be played: an answer that is lost, an error, a call in the middle.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Keys of one page of a list.
const PAGE: usize = 7;

/// A request as the play sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// The object, without the bucket.
    pub key: String,
    /// Is it to be made only where there is none?
    pub only_new: bool,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What it asks for.
    Served,
    /// The same, and its answer never arrives.
    AnswerLost,
    /// Nothing, and the connection ends.
    Lost,
    /// Nothing; the store says that it is too busy.
    Refused,
}

type Play = Arc<dyn Fn(&Asked) -> Fate + Send + Sync>;

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    play: Mutex<Option<Play>>,
    /// Requests and the status of their answers.
    served: Mutex<Vec<(Asked, u16)>>,
}

/// The store. Its threads end with the program.
pub struct Store {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Store {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || drop(state.serve(&stream)));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Decides what happens to requests from now on.
    pub fn play(&self, play: impl Fn(&Asked) -> Fate + Send + Sync + 'static) {
        *self.state.play.lock().unwrap() = Some(Arc::new(play));
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.objects.lock().unwrap().keys().cloned().collect()
    }

    /// How many requests were answered like this.
    pub fn count(&self, wanted: impl Fn(&Asked, u16) -> bool) -> usize {
        self.state.served.lock().unwrap().iter().filter(|(asked, status)| wanted(asked, *status)).count()
    }
}

struct Request {
    asked: Asked,
    query: BTreeMap<String, String>,
    range: Option<String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type", "application/xml".into())], body: body.into() }
    }

    fn error(status: u16, code: &str) -> Self {
        Self::of(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader)? {
            // It may wait for another request, so the lock is not held.
            let play = self.play.lock().unwrap().clone();
            let fate = play.map_or(Fate::Served, |play| play(&request.asked));
            let answer = match fate {
                Fate::Lost => return Ok(()),
                Fate::Refused => Answer::error(503, "SlowDown"),
                Fate::Served | Fate::AnswerLost => self.answer(&request),
            };
            self.served.lock().unwrap().push((request.asked.clone(), answer.status));
            if fate == Fate::AnswerLost {
                return Ok(());
            }
            write(stream, &request, &answer)?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut objects = self.objects.lock().unwrap();
        let key = &request.asked.key;
        match request.asked.method.as_str() {
            // Looked at and put under one lock.
            "PUT" if request.asked.only_new && objects.contains_key(key) => Answer::error(412, "PreconditionFailed"),
            "PUT" => {
                objects.insert(key.clone(), request.body.clone());
                described(Answer::of(200, ""), &request.body)
            }
            "GET" if key.is_empty() => list(&objects, &request.query),
            "GET" | "HEAD" => match objects.get(key) {
                None => Answer::error(404, "NoSuchKey"),
                Some(bytes) => part(bytes, request.range.as_deref()),
            },
            "POST" => {
                let text = String::from_utf8_lossy(&request.body).into_owned();
                let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
                let deleted: String = keys
                    .map(|key| {
                        objects.remove(key);
                        format!("<Deleted><Key>{key}</Key></Deleted>")
                    })
                    .collect();
                Answer::of(200, format!("<DeleteResult>{deleted}</DeleteResult>"))
            }
            "DELETE" => {
                objects.remove(key);
                Answer::of(204, "")
            }
            _ => Answer::error(405, "MethodNotAllowed"),
        }
    }
}

fn described(mut answer: Answer, bytes: &[u8]) -> Answer {
    answer.headers.push(("ETag", format!("\"{:x}\"", bytes.len())));
    answer.headers.push(("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT".into()));
    answer
}

fn part(bytes: &[u8], range: Option<&str>) -> Answer {
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return described(Answer::of(200, bytes), bytes);
    };
    let number = |text: &str| text.parse::<usize>().ok();
    let (from, end) = match (number(from), number(to)) {
        (Some(from), Some(to)) => (from, (to + 1).min(bytes.len())),
        (Some(from), None) => (from, bytes.len()),
        (None, last) => (bytes.len().saturating_sub(last.unwrap_or(0)), bytes.len()),
    };
    if from >= end {
        return Answer::error(416, "InvalidRange");
    }
    let mut answer = described(Answer::of(206, &bytes[from..end]), bytes);
    answer.headers.push(("Content-Range", format!("bytes {from}-{}/{}", end - 1, bytes.len())));
    answer
}

/// `ListObjectsV2`.
fn list(objects: &BTreeMap<String, Vec<u8>>, query: &BTreeMap<String, String>) -> Answer {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after = text("continuation-token").max(text("start-after"));
    let (mut contents, mut folders, mut count, mut last, mut more) = (String::new(), Vec::new(), 0, "", false);
    for (key, bytes) in objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after) {
        if count == PAGE {
            more = true;
            break;
        }
        (count, last) = (count + 1, key);
        let rest = &key[prefix.len()..];
        if let Some(at) = rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            let folder = format!("{prefix}{}", &rest[..=at]);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
            continue;
        }
        contents.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"{:x}\"</ETag>\
             <Size>{}</Size></Contents>",
            bytes.len(),
            bytes.len()
        ));
    }
    let folders: String =
        folders.iter().map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")).collect();
    let next = if more { format!("<NextContinuationToken>{last}</NextContinuationToken>") } else { String::new() };
    Answer::of(
        200,
        format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{contents}{folders}{next}</ListBucketResult>"),
    )
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut only_new, mut range) = (0, false, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "if-none-match" => only_new = value.trim() == "*",
            "range" => range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    // Path style: the bucket is the first part.
    let key = decoded(path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(a, b)| (decoded(a), decoded(b)));
    Ok(Some(Request { asked: Asked { method, key, only_new }, query: query.collect(), range, body }))
}

fn write(mut stream: &TcpStream, request: &Request, answer: &Answer) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if request.asked.method != "HEAD" {
        bytes.extend(&answer.body);
    }
    stream.write_all(&bytes)
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
