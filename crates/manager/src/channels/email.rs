//! `email`: a mail as text and HTML, by SMTP (RFC 5321) with TLS from the first byte (`smtps://host:465`) or by STARTTLS
//! (`smtp://host:587`), which is insisted on. The secret is the password of `settings.user`.
//!
//! The Message-ID is made of the message's id, so that mail programs show a repeat once. A server that refuses before the
//! last byte of the message has it not; one that falls silent after it may have it.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::BoxFuture;

use super::doc::{chars, html, plain};
use super::{Failure, Key, Kind, Letter, Need, PATIENCE, Receipt, Receiver, Setting};
use crate::config::Channel;

/// Largest text of a mail, in bytes; its HTML is some times that.
const MOST: usize = 100_000;
/// Most people that a mail is for.
const MOST_TO: usize = 50;

/// What it is.
pub const KIND: Kind = Kind {
    id: "email",
    about: "a mail as text and HTML, by SMTP with TLS",
    url: Need::Must("smtps://host:465, or smtp://host:587 for STARTTLS"),
    secret: Need::May("password of the user"),
    settings: &[
        Setting::must("from", "address of the sender"),
        Setting::must("to", "addresses, with commas between"),
        Setting::may("user", "who signs in at the server"),
        Setting::may("ca", "file with the certificate that signs the server's, PEM; the system's roots where absent"),
    ],
    safety: Safety::Repeatable,
    closes: false,
    findings: None,
    settles: 0,
    rate: (10, 30),
    open: |channel, _| Ok(Box::new(Email::open(channel)?)),
};

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    First,
    Started,
    /// To this machine itself alone.
    None,
}

struct Email {
    host: String,
    port: u16,
    tls: Tls,
    ca: Option<Vec<u8>>,
    from: Mailbox,
    to: Vec<Mailbox>,
    user: Option<String>,
    language: &'static str,
}

impl Email {
    fn open(channel: &Channel) -> Result<Self, String> {
        let url = url::Url::parse(&channel.url).map_err(|error| format!("url {}: {error}", channel.url))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || !url.username().is_empty() || url.password().is_some() {
            return Err(
                "url is smtps://host:465 or smtp://host:587; who signs in is settings.user and the secret".into()
            );
        }
        let (tls, usual) = match url.scheme() {
            "smtps" => (Tls::First, 465),
            "smtp" => (Tls::Started, 587),
            "smtp+plain"
                if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) =>
            {
                (Tls::None, 25)
            }
            "smtp+plain" => return Err("smtp+plain is for a server on this machine itself alone".into()),
            other => return Err(format!("url begins with {other}; expected smtps or smtp")),
        };
        let mailbox = |text: &str| {
            text.trim().parse::<Mailbox>().map_err(|error| format!("{:?} is no address: {error}", text.trim()))
        };
        let to: Vec<Mailbox> =
            channel.setting("to").unwrap_or_default().split(',').map(mailbox).collect::<Result<_, _>>()?;
        if to.len() > MOST_TO {
            return Err(format!("a mail is for at most {MOST_TO} people; use a list of your mail server"));
        }
        let user = channel.setting("user").map(str::to_owned);
        if user.is_some() != (channel.secret.is_some() || channel.secret_file.is_some()) {
            return Err("settings.user and a secret belong together".into());
        }
        if user.is_some() && tls == Tls::None {
            return Err("a password is sent by TLS alone".into());
        }
        let ca = channel.setting("ca").map(|path| std::fs::read(path).map_err(|error| format!("read {path}: {error}")));
        Ok(Self {
            host,
            port: url.port().unwrap_or(usual),
            tls,
            ca: ca.transpose()?,
            from: mailbox(channel.setting("from").unwrap_or_default())?,
            to,
            user,
            language: channel.language.name(),
        })
    }

    fn parameters(&self) -> Result<Option<TlsParameters>, Failure> {
        if self.tls == Tls::None {
            return Ok(None);
        }
        let wrong = |error: Error| Failure::Refused(format!("set up TLS to {}: {error}", self.host));
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(pem) = &self.ca {
            // That one alone.
            builder = builder.certificate_store(CertificateStore::None);
            builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(wrong)?);
        }
        builder.build_rustls().map(Some).map_err(wrong)
    }

    /// Up to where the message can be sent: nothing was sent yet.
    async fn connect(&self, secret: &Key) -> Result<AsyncSmtpConnection, Failure> {
        let at = |what: &str, error: &Error| before(&format!("{what} {}:{}", self.host, self.port), error);
        let parameters = self.parameters()?;
        let hello = ClientId::Domain(chars(self.from.email.domain(), 253));
        let first = parameters.clone().filter(|_| self.tls == Tls::First);
        let address = (self.host.as_str(), self.port);
        let connection = AsyncSmtpConnection::connect_tokio1(address, Some(PATIENCE / 2), &hello, first, None).await;
        let mut connection = connection.map_err(|error| at("connect to", &error))?;
        if let (Tls::Started, Some(parameters)) = (self.tls, parameters) {
            if !connection.can_starttls() {
                return Err(Failure::Refused(format!(
                    "{} offers no STARTTLS; nothing is sent in the clear",
                    self.host
                )));
            }
            connection.starttls(parameters, &hello).await.map_err(|error| at("begin TLS with", &error))?;
        }
        if let Some(user) = &self.user {
            let credentials = Credentials::new(user.clone(), secret.text()?.to_owned());
            let ways = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&ways, &credentials).await.map_err(|error| at("sign in at", &error))?;
        }
        Ok(connection)
    }
}

/// What an error before the message means: the server has nothing.
fn before(what: &str, error: &Error) -> Failure {
    let reason = format!("{what}: {error}");
    match error.is_permanent() || error.is_tls() {
        true => Failure::Refused(reason),
        false => Failure::not_taken(reason),
    }
}

impl Receiver for Email {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let mail = mail(letter, &self.from, &self.to, self.language)?;
            let connected = tokio::time::timeout(PATIENCE, self.connect(secret)).await;
            let mut connection = connected.map_err(|_| Failure::not_taken(format!("{} is silent", self.host)))??;
            let sent = tokio::time::timeout(PATIENCE, connection.send(mail.envelope(), &mail.formatted())).await;
            let outcome = match sent {
                Err(_) => Err(Failure::Unknown(format!("{} fell silent while the mail was sent", self.host))),
                Ok(Ok(response)) => {
                    let said: Vec<&str> = response.message().collect();
                    Ok(Receipt::said(chars(&format!("{} {}", response.code(), said.join(" ")), 300)))
                }
                Ok(Err(error)) => Err(match (error.status(), error.is_client()) {
                    // An answer with a code of failure: it has it not.
                    (Some(_), _) if error.is_permanent() => Failure::Refused(format!("{}: {error}", self.host)),
                    (Some(_), _) => Failure::not_taken(format!("{}: {error}", self.host)),
                    (None, true) => Failure::Refused(format!("{}: {error}", self.host)),
                    (None, false) => Failure::Unknown(format!("{}: {error}", self.host)),
                }),
            };
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.quit()).await;
            outcome
        })
    }
}

/// The mail: text and HTML.
pub fn mail(letter: &Letter<'_>, from: &Mailbox, to: &[Mailbox], language: &str) -> Result<Message, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::Refused(format!("make the mail: {what}"));
    let parts = letter.doc.fit(|parts| (plain(parts).len() <= MOST).then(|| parts.to_vec())).unwrap_or_default();
    let seconds = u64::try_from(letter.created.micros() / 1_000_000).unwrap_or_default();
    let local: String = letter.id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(100).collect();
    let mut builder = Message::builder()
        .from(from.clone())
        .subject(letter.doc.title.clone())
        .date(UNIX_EPOCH + Duration::from_secs(seconds))
        .message_id(Some(format!("<{local}@{}>", from.email.domain())))
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Sakimori-Message", &local));
    if letter.may_be_repeat {
        builder = builder.raw_header(header("X-Sakimori-Repeat", "may be a repeat"));
    }
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(plain(&parts));
    let page = SinglePart::builder().header(ContentType::TEXT_HTML).body(html(language, &letter.doc.title, &parts));
    builder.multipart(MultiPart::alternative().singlepart(text).singlepart(page)).map_err(|error| wrong(&error))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, facts_with, letter, many};
    use super::*;

    fn made(facts: &serde_json::Value) -> String {
        let from: Mailbox = "Sakimori <soc@example.com>".parse().unwrap();
        let to: Vec<Mailbox> = vec!["ann@example.com".parse().unwrap(), "bob@example.com".parse().unwrap()];
        let mail = letter(facts, |letter| mail(letter, &from, &to, "en").unwrap());
        String::from_utf8(mail.formatted()).unwrap()
    }

    #[test]
    fn a_mail_has_our_id_and_both_forms_and_japanese_in_its_subject() {
        let mut facts = many(2);
        facts["summary"] = "不正なログイン 検知".into();
        let mail = made(&facts);
        for needed in [
            "Message-ID: <m1@example.com>",
            "Auto-Submitted: auto-generated",
            "To: ann@example.com, bob@example.com",
            "multipart/alternative",
            "text/plain; charset=utf-8",
            "text/html; charset=utf-8",
            "=?utf-8?b?",
        ] {
            assert!(mail.contains(needed), "{needed}: {mail}");
        }
        assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 998));
    }

    #[test]
    fn a_hostile_value_makes_no_header_and_no_part() {
        for hostile in HOSTILE {
            let mut facts = facts_with(hostile);
            facts["summary"] = (*hostile).into();
            let mail = made(&facts);
            let (head, _) = mail.split_once("\r\n\r\n").unwrap();
            let names: Vec<&str> = head
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .filter_map(|line| Some(line.split_once(':')?.0))
                .collect();
            assert!(!names.iter().any(|name| name.eq_ignore_ascii_case("bcc")), "{head}");
            assert_eq!(names.iter().filter(|name| **name == "Subject").count(), 1, "{head}");
            assert_eq!(mail.matches("Content-Type: text/html").count(), 1);
        }
    }

    #[test]
    fn settings_that_would_send_in_the_clear_or_to_nobody_are_refused() {
        let channel = |url: &str, settings: &[(&str, &str)], secret: Option<&str>| Channel {
            url: url.into(),
            secret: secret.map(str::to_owned),
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Channel::default()
        };
        let both = [("from", "a@example.com"), ("to", "b@example.com, c@example.com")];
        let user = [both[0], both[1], ("user", "a")];
        let open = |channel: Channel| Email::open(&channel).map(|email| (email.port, email.tls, email.to.len()));
        assert_eq!(open(channel("smtp://mail.example", &both, None)), Ok((587, Tls::Started, 2)));
        assert_eq!(open(channel("smtps://mail.example", &user, Some("p"))), Ok((465, Tls::First, 2)));
        assert_eq!(open(channel("smtp+plain://127.0.0.1:2525", &both, None)), Ok((2525, Tls::None, 2)));
        for (url, settings, secret) in [
            ("smtp+plain://mail.example", &both[..], None),
            ("http://mail.example", &both[..], None),
            ("smtp://u:p@mail.example", &both[..], None),
            ("smtp://mail.example", &both[..], Some("p")),
            ("smtp://mail.example", &user[..], None),
            ("smtp+plain://127.0.0.1", &user[..], Some("p")),
            ("smtp://mail.example", &[("from", "a@example.com"), ("to", "nobody")][..], None),
        ] {
            assert!(open(channel(url, settings, secret)).is_err(), "{url} {settings:?}");
        }
    }
}
