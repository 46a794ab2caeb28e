//! Syslog to a real server, Debian's rsyslog: UDP, TCP with octet counting and TLS; what it wrote is read back.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::site::{HOSTILE, Site, certificate, channel, listens, port};

const RSYSLOG: &str = "/usr/sbin/rsyslogd";

struct Rsyslog {
    process: Child,
    ports: [u16; 3],
    log: std::path::PathBuf,
}

impl Rsyslog {
    fn start(dir: &Path, test: &str) -> Option<Self> {
        let modules = Path::new("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so");
        if !Path::new(RSYSLOG).exists() || !modules.exists() {
            sakimori_sys::harness::skip(test, "rsyslogd with its module for TLS (Debian's rsyslog and rsyslog-gnutls)");
            return None;
        }
        let (cert, key) = certificate(dir)?;
        let ports = [port(), port(), port()];
        let log = dir.join("messages.log");
        let config = format!(
            "global(workDirectory=\"{dir}\" defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{cert}\" \
             defaultNetstreamDriverCertFile=\"{cert}\" defaultNetstreamDriverKeyFile=\"{key}\")\n\
             module(load=\"imudp\")\nmodule(load=\"imtcp\")\n\
             template(name=\"whole\" type=\"string\" string=\"%inputname% %pri% %app-name% %msgid% %structured-data% %msg%\\n\")\n\
             ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{log}\" template=\"whole\") }}\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{}\" ruleset=\"all\" name=\"udp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{}\" ruleset=\"all\" name=\"tcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{}\" ruleset=\"all\" name=\"tls\" streamdriver.name=\"gtls\" \
             streamdriver.mode=\"1\" streamdriver.authmode=\"anon\")\n",
            ports[0],
            ports[1],
            ports[2],
            dir = dir.display(),
            cert = cert.display(),
            key = key.display(),
            log = log.display(),
        );
        let file = dir.join("rsyslog.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(RSYSLOG);
        command.args(["-n", "-f", file.to_str()?, "-i", dir.join("rsyslog.pid").to_str()?]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let one = Self { process, ports, log };
        listens(ports[1]);
        listens(ports[2]);
        Some(one)
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_real_rsyslog_takes_json_by_udp_and_tls_and_cef_by_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Rsyslog::start(dir.path(), "a_real_rsyslog_takes_json_by_udp_and_tls_and_cef_by_tcp") else {
        return;
    };
    let ca = dir.path().join("server.pem");
    let [udp, tcp, tls] = server.ports;
    for (input, url, settings) in [
        ("udp", format!("udp://127.0.0.1:{udp}"), vec![("facility", "4")]),
        ("tcp", format!("tcp://127.0.0.1:{tcp}"), vec![("format", "cef")]),
        ("tls", format!("tls://localhost:{tls}"), vec![("ca", ca.to_str().unwrap())]),
    ] {
        let own = tempfile::tempdir().unwrap();
        let mut site = Site::start(own.path(), vec![channel("syslog", &url, &settings)]);
        let message = site.told();
        let line = site.until("it is written", || {
            let text = std::fs::read_to_string(&server.log).unwrap_or_default();
            text.lines().find(|line| line.starts_with(&format!("{input} "))).map(str::to_owned)
        });
        let pri = if input == "udp" { 4 * 8 + 4 } else { 13 * 8 + 4 };
        let head = format!(
            "{input} {pri} sakimori alert [origin software=\"sakimori\" swVersion=\"{}\"] ",
            env!("CARGO_PKG_VERSION")
        );
        let body = line.strip_prefix(&head).unwrap_or_else(|| panic!("{line}"));
        if input == "tcp" {
            assert!(body.starts_with("CEF:0|Sakimori|Sakimori|") && body.contains("src=192.0.2.7 suser="), "{line}");
            assert!(body.contains(&format!("cs2={}", message.id)), "{line}");
        } else {
            let document: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(document["user.name"], sakimori_respond::message::line(HOSTILE));
            assert_eq!(
                (&document["source.ip"], &document["sakimori.message.id"]),
                (&"192.0.2.7".into(), &message.id.clone().into())
            );
        }
        site.stop();
    }
    let text = std::fs::read_to_string(&server.log).unwrap();
    assert_eq!(text.lines().count(), 3, "a line each, whatever is in them: {text}");
}
