//! Mail to a real server, Debian's exim: STARTTLS with a certificate of its own, a password, Japanese in the subject; what it
//! refuses, and what is never sent in the clear.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sakimori_store::control::messages::State;

use super::site::{HOSTILE, Site, certificate, channel, listens, port, secret};

const EXIM: &str = "/usr/sbin/exim4";

/// A server that takes mail for `example.com` from who signs in by TLS, and puts it into a file.
struct Exim {
    process: Child,
    port: u16,
    inbox: std::path::PathBuf,
}

impl Exim {
    fn start(dir: &Path, test: &str) -> Option<Self> {
        if !Path::new(EXIM).exists() || !sakimori_sys::harness::root() {
            sakimori_sys::harness::skip(test, "exim4 (Debian's exim4-daemon-light) and root");
            return None;
        }
        let (cert, key) = certificate(dir)?;
        let (port, inbox) = (port(), dir.join("mail/inbox"));
        // Exim delivers as nobody that is root.
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::create_dir(dir.join("mail")).unwrap();
        open(&dir.join("mail"), 0o777);
        open(dir, 0o755);
        let spool = dir.join("spool");
        let config = format!(
            "primary_hostname = localhost\nspool_directory = {spool}\nlog_file_path = {dir}/exim-%s.log\npid_file_path = {dir}/exim.pid\n\
             domainlist ours = example.com\nacl_smtp_rcpt = rcpt\nacl_smtp_data = accept\nexim_user = root\nexim_group = root\n\
             tls_advertise_hosts = *\ntls_certificate = {cert}\ntls_privatekey = {key}\n\
             auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}{{}}}}\nhost_lookup =\nrfc1413_hosts =\n\
             begin acl\nrcpt:\n  deny !authenticated = *\n  accept domains = +ours\n  deny message = relay not permitted\n\
             begin routers\nall:\n  driver = accept\n  transport = inbox\n\
             begin transports\ninbox:\n  driver = appendfile\n  file = {inbox}\n  user = mail\n  group = mail\n  envelope_to_add\n\
             begin authenticators\nplain:\n  driver = plaintext\n  public_name = PLAIN\n\
             \x20 server_condition = ${{if and{{{{eq{{$auth2}}{{soc}}}}{{eq{{$auth3}}{{pass word}}}}}}}}\n\x20 server_set_id = $auth2\n",
            spool = spool.display(),
            dir = dir.display(),
            cert = cert.display(),
            key = key.display(),
            inbox = inbox.display(),
        );
        let file = dir.join("exim.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(EXIM);
        command.args(["-C", file.to_str()?, "-bdf", "-oX", &format!("127.0.0.1.{port}")]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let one = Self { process, port, inbox };
        listens(port);
        Some(one)
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_real_mail_server_takes_a_mail_by_tls_with_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let Some(exim) = Exim::start(dir.path(), "a_real_mail_server_takes_a_mail_by_tls_with_a_password") else { return };
    let ca = dir.path().join("server.pem");
    let settings = [
        ("from", "Sakimori <soc@example.com>"),
        ("to", "ann@example.com"),
        ("user", "soc"),
        ("ca", ca.to_str().unwrap()),
    ];
    let url = format!("smtp://localhost:{}", exim.port);
    let mut ops = channel("email", &url, &settings);
    ops.secret_file = secret(dir.path(), "pass word");
    let mut site = Site::start(dir.path(), vec![ops.clone()]);
    let message = site.told();
    let mail = site.until("it is in the inbox", || {
        std::fs::read_to_string(&exim.inbox).ok().filter(|text| text.contains("</html>"))
    });
    assert!(mail.contains(&format!("Message-ID: <{}@example.com>", message.id)), "{mail}");
    assert!(mail.contains("Envelope-to: ann@example.com") && mail.contains("Subject: [medium] =?utf-8?b?"), "{mail}");
    // The server says itself that it came by TLS and who signed in.
    assert!(mail.contains("esmtpsa") && mail.contains("(TLS1"), "{mail}");
    assert!(!mail.lines().any(|line| line.starts_with("Bcc:")) && HOSTILE.contains("\r\nBcc:"), "{mail}");
    site.stop();

    // A wrong password, and a receiver that the server does not want, are refused for good, and say why.
    for (password, to) in [("another one", "ann@example.com"), ("pass word", "ann@elsewhere.example")] {
        let dir = tempfile::tempdir().unwrap();
        let mut ops = ops.clone();
        ops.settings.insert("to".into(), to.into());
        ops.secret_file = secret(dir.path(), password);
        let mut site = Site::start(dir.path(), vec![ops]);
        let alert = site.alert();
        let id = site.tell(&alert, &[]);
        let dead = site.over(&id);
        assert_eq!(dead.state, State::Dead);
        assert!(dead.reason.contains("535") || dead.reason.contains("550"), "{}", dead.reason);
        assert!(!dead.reason.contains(password), "{}", dead.reason);
        site.stop();
    }

    // A certificate that nobody here signed.
    let other = tempfile::tempdir().unwrap();
    certificate(other.path()).unwrap();
    ops.settings.insert("ca".into(), other.path().join("server.pem").display().to_string());
    ops.secret_file = secret(other.path(), "pass word");
    let mut site = Site::start(other.path(), vec![ops]);
    let alert = site.alert();
    let id = site.tell(&alert, &[]);
    let tried = site.until("it was tried", || {
        site.pass(1);
        site.message(&id).filter(|message| !message.reason.is_empty())
    });
    assert!(
        tried.reason.contains("certificate") || tried.reason.contains("TLS") || tried.reason.contains("tls"),
        "{}",
        tried.reason
    );
    site.stop();
}
