//! What stands between the code and the simulator: it writes down which operations are called, plays what the simulator does
//! not know ([`super::fake`]), and breaks what a test wants broken.
//!
//! HTTP/1.1 with one request a connection, which is all that it needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::fake::Fake;

/// One call of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The service by its name in IAM: `ec2`, `elasticloadbalancing`.
    pub service: String,
    /// The operation: `DescribeInstances`.
    pub operation: String,
    /// The region that it was signed for.
    pub region: String,
    /// Its parameters as they were sent.
    pub body: String,
}

impl Call {
    /// As IAM writes it.
    pub fn right(&self) -> String {
        format!("{}:{}", self.service, self.operation)
    }

    /// Does it change something?
    pub fn changes(&self) -> bool {
        !["Describe", "List", "Get"].iter().any(|begin| self.operation.starts_with(begin))
    }

    /// A parameter of the query protocol.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.body.split('&').find_map(|pair| Some(decode(pair.strip_prefix(name)?.strip_prefix('=')?)))
    }
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let code: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(std::str::from_utf8(&code).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What becomes of a call.
pub enum Fate {
    /// It is answered as usual.
    Answered,
    /// It is refused and not carried out; the error is one that AWS's SDK does not try again by itself.
    Refused,
    /// It is refused with this code of AWS's.
    RefusedAs(&'static str),
    /// It is carried out, and its answer is lost.
    Lost,
    /// It is carried out, and its answer is changed.
    Changed(fn(String) -> String),
}

type Hook = Box<dyn FnMut(&Call) -> Fate + Send>;

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    hook: Option<Hook>,
    fake: Fake,
}

/// The front, for as long as the process lives.
#[derive(Clone)]
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where virtual desktops are played.
    pub desktops: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Front {
    /// Begins to listen, before the simulator at this address and what plays desktops.
    pub fn start(simulator: SocketAddr, desktops: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self { address: listener.local_addr().unwrap(), desktops, state: Arc::default() };
        let served = front.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let front = served.clone();
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || drop(front.serve(stream, simulator)));
            }
        });
        front
    }

    /// What becomes of the calls from now on.
    pub fn play(&self, hook: impl FnMut(&Call) -> Fate + Send + 'static) {
        self.state.lock().unwrap().hook = Some(Box::new(hook));
    }

    /// All calls are answered again.
    pub fn heal(&self) {
        self.state.lock().unwrap().hook = None;
    }

    /// The calls since this was asked last.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    /// What plays the rest.
    pub fn fake<T>(&self, change: impl FnOnce(&mut Fake) -> T) -> T {
        change(&mut self.state.lock().unwrap().fake)
    }

    fn serve(&self, mut stream: TcpStream, simulator: SocketAddr) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length, mut target, mut scope) = (Vec::new(), 0, None, None);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let (name, value) = line.trim_end().split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "x-amz-target" => target = value.trim().rsplit('.').next().map(str::to_owned),
                "authorization" => scope = value.split("Credential=").nth(1).map(str::to_owned),
                "transfer-encoding" => panic!("a body of unknown length: {line}"),
                "expect" => stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                _ => {}
            }
            let ends = line.trim_end().is_empty();
            if !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("expect") {
                head.push(line);
            }
            if ends {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let call = read(target, scope, &body);
        let (reader, mut state) = (call.0, self.state.lock().unwrap());
        let call = call.1;
        // The reader's own questions are neither written down nor broken.
        let fate = match state.hook.as_mut().filter(|_| !reader) {
            Some(hook) => hook(&call),
            None => Fate::Answered,
        };
        if !reader {
            state.calls.push(call.clone());
        }
        let refused = match fate {
            Fate::Refused => Some("TestRefusal"),
            Fate::RefusedAs(code) => Some(code),
            _ => None,
        };
        if let Some(code) = refused {
            drop(state);
            return stream.write_all(&refusal(&call, code));
        }
        let answer = state.fake.answer(&call);
        drop(state);
        let answer = match answer {
            Some((status, text)) if text.starts_with('<') => http(status, "text/xml", &text),
            Some((status, text)) => http(status, "application/x-amz-json-1.1", &text),
            None if call.service == "workspaces" => forward(self.desktops, &head, &body)?,
            None => {
                let answer = forward(simulator, &head, &body)?;
                let waits =
                    call.parameter("InstanceIds.member.1").is_some_and(|id| self.fake(|fake| fake.waits(&call, &id)));
                if waits { changed(&answer, super::fake::waiting) } else { answer }
            }
        };
        match fate {
            Fate::Lost => stream.shutdown(std::net::Shutdown::Both),
            Fate::Changed(change) => stream.write_all(&changed(&answer, change)),
            _ => stream.write_all(&answer),
        }
    }
}

/// Is it the reader's, and which call is it?
fn read(target: Option<String>, scope: Option<String>, body: &[u8]) -> (bool, Call) {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let scope = scope.unwrap_or_default();
    let mut parts = scope.split('/');
    let who = parts.next().unwrap_or_default().to_owned();
    let (region, service) = (parts.nth(1).unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned());
    let mut call = Call { service, operation: target.unwrap_or_default(), region, body };
    if call.operation.is_empty() {
        call.operation = call.parameter("Action").unwrap_or_else(|| panic!("which operation is {}?", call.body));
    }
    (who == "reader", call)
}

fn refusal(call: &Call, code: &str) -> Vec<u8> {
    if call.body.starts_with('{') {
        return http(
            400,
            "application/x-amz-json-1.1",
            r#"{"__type": "TestRefusal", "message": "refused by the test"}"#,
        );
    }
    let error = format!("<Code>{code}</Code><Message>refused by the test</Message>");
    let text = match call.service.as_str() {
        "ec2" => format!("<Response><Errors><Error>{error}</Error></Errors><RequestID>1</RequestID></Response>"),
        _ => format!("<ErrorResponse><Error>{error}</Error><RequestId>1</RequestId></ErrorResponse>"),
    };
    http(400, "text/xml", &text)
}

fn http(status: u16, kind: &str, text: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Ok\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", text.len());
    format!("{head}Connection: close\r\n\r\n{text}").into_bytes()
}

fn forward(simulator: SocketAddr, head: &[String], body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(simulator)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let (last, lines) = head.split_last().unwrap();
    let request = format!("{}Connection: close\r\n{last}", lines.concat());
    stream.write_all(request.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn changed(answer: &[u8], change: fn(String) -> String) -> Vec<u8> {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lines = || head.lines().filter_map(|line| line.split_once(": "));
    let kind = lines().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map_or("text/xml", |(_, kind)| kind);
    http(status, kind, &change(body.to_owned()))
}
