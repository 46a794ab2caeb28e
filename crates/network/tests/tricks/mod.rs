//! Attacks in disguise: what hides a request, an answer or a mail from one who reads along, each as packets.
//!
//! A trick plays one conversation between a client of its own and a server, in which the attack arrives: what is sent
//! is what a server, browser or mail reader would act on. Its rule would find the attack if it came plainly. The
//! table is used twice: by the test beside this folder, and by `sakimori-bench evasion`, which has Suricata look at
//! the same packets.

mod http;
mod http2;
mod ip;
mod other;
pub mod talk;
mod tcp;

use std::sync::Arc;

use sakimori_network::{Engine, LoadOptions, RuleSet, Settings, capture::Frame};
use talk::Talk;

/// One disguise.
pub struct Trick {
    /// What it belongs to: IP, TCP, HTTP/1, HTTP/2, TLS, SMTP, DNS, FTP, SSH.
    pub area: &'static str,
    pub name: &'static str,
    pub rule: Rule,
    /// Plays it.
    pub play: fn(&mut Talk),
}

/// What looks for the attack.
#[derive(Clone, Copy)]
pub enum Rule {
    /// The path of a request.
    Uri,
    /// The same over IPv6.
    UriOfSix,
    /// The same in the bytes of the stream.
    Bytes,
    /// A header of a request.
    Header,
    /// The body of a request.
    Body,
    /// A file that a client sends by HTTP.
    Upload,
    /// The body of an answer.
    Answer,
    /// The name that TLS asks for.
    Sni,
    /// An attachment.
    Mail,
    /// A question to DNS.
    Name,
    /// What an FTP client sends.
    Command,
    /// What an SSH client says of itself.
    Software,
}

/// What answers, bodies and files carry.
pub const PAYLOAD: &str = "evil-payload";

impl Rule {
    /// The rule with its number, for one client.
    pub fn text(self, sid: usize, client: &str) -> String {
        let (head, options) = match self {
            Self::Uri => (format!("http {client} any -> any any"), "http.uri; content:\"/etc/passwd\"".to_owned()),
            Self::UriOfSix => {
                let client = client.replace("10.9.", "");
                let (high, low) = client.split_once('.').unwrap_or_default();
                let tail = [high, low].map(|part| part.parse::<u8>().unwrap_or(0));
                let head = format!("http 2001:db8::a09:{:02x}{:02x} any -> any any", tail[0], tail[1]);
                (head, "http.uri; content:\"/etc/passwd\"".to_owned())
            }
            Self::Bytes => (format!("tcp {client} any -> any any"), "flow:to_server; content:\"/etc/passwd\"".into()),
            Self::Header => (format!("http {client} any -> any any"), "http.header; content:\"jndi|3a|ldap\"".into()),
            Self::Body => {
                (format!("http {client} any -> any any"), "http.request_body; content:\"evil-payload\"".into())
            }
            Self::Upload => {
                (format!("http {client} any -> any any"), "flow:to_server; file.data; content:\"evil-payload\"".into())
            }
            Self::Answer => {
                (format!("http any any -> {client} any"), "flow:to_client; file.data; content:\"evil-payload\"".into())
            }
            Self::Sni => (format!("tls {client} any -> any any"), "tls.sni; content:\"evil.example\"; nocase".into()),
            Self::Mail => {
                (format!("smtp {client} any -> any any"), "flow:to_server; file.data; content:\"evil-payload\"".into())
            }
            Self::Name => {
                (format!("dns {client} any -> any any"), "dns.query; content:\"evil.example\"; nocase".into())
            }
            Self::Command => (format!("ftp {client} any -> any any"), "content:\"/etc/passwd\"".into()),
            Self::Software => (format!("ssh {client} any -> any any"), "ssh.software; content:\"evil-ssh\"".into()),
        };
        format!("alert {head} (msg:\"trick {sid}\"; {options}; sid:{sid};)")
    }
}

/// All tricks, in the order of the table.
pub fn all() -> Vec<&'static Trick> {
    [ip::TRICKS, tcp::TRICKS, http::TRICKS, http2::TRICKS, other::TRICKS].into_iter().flatten().collect()
}

/// The client's address of the trick with a number.
pub fn client(number: usize) -> [u8; 4] {
    [10, 9, (number / 200) as u8, (number % 200 + 1) as u8]
}

/// The same as text.
pub fn client_text(number: usize) -> String {
    client(number).map(|octet| octet.to_string()).join(".")
}

/// The frames (Ethernet) of the trick with a number.
pub fn frames(number: usize, trick: &Trick) -> Vec<Vec<u8>> {
    let port = match trick.rule {
        Rule::Sni => 443,
        Rule::Mail => 25,
        Rule::Name => 53,
        Rule::Command => 21,
        Rule::Software => 22,
        _ => 80,
    };
    let mut talk = Talk::new(client(number), port);
    (trick.play)(&mut talk);
    talk.frames
}

/// The rule of the trick with a number; its signature is the number and one.
pub fn rule(number: usize, trick: &Trick) -> String {
    trick.rule.text(number + 1, &client_text(number))
}

/// What the engine makes of a trick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The rule alerts.
    Seen,
    /// It does not, but what it was to find does not get through.
    Refused,
    Hidden,
}

/// Plays the trick with a number.
///
/// # Errors
/// Its rule is not taken.
pub fn found(number: usize, trick: &Trick, settings: Settings) -> Result<Found, String> {
    let rules = RuleSet::load(&[("tricks", &rule(number, trick))], &LoadOptions::default(), &|_| None);
    if let Some(refused) = rules.refused.first() {
        return Err(format!("{refused:?}"));
    }
    let mut engine = Engine::new(settings, Arc::new(rules));
    let (mut alerts, mut refused) = (Vec::new(), false);
    for (at, data) in (1..).zip(frames(number, trick)) {
        let frame = Frame { time: time(at), link: 1, data: &data, cut: false, vouched: false };
        refused |= !engine.frame(&frame, at, &mut alerts).accepts();
    }
    engine.finish(&mut alerts);
    let seen = alerts.iter().any(|alert| alert.rule.sid as usize == number + 1);
    Ok(if seen {
        Found::Seen
    } else if refused {
        Found::Refused
    } else {
        Found::Hidden
    })
}

/// Microseconds of a frame: a millisecond each.
pub fn time(number: u64) -> i64 {
    1_700_000_000_000_000 + number as i64 * 1_000
}
