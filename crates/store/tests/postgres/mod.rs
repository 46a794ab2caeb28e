//! A PostgreSQL server for tests, from Debian's package: one a test program, a database a test, gone with the program.
//!
//! A shell holds it: its standard input is a pipe of this process, so however this process ends, the shell sees the
//! pipe's end, stops the server and removes its folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the shell does: `$1` is the folder, `$2` the server's programs, `$3` the port, `$4` what runs them as another
/// user.
const HOLD: &str = r#"
set -e
cd "$1"
trap '[ -n "$ready" ] || tail -n 20 log >&2; kill -QUIT $server 2>/dev/null && wait $server; cd /; rm -rf "$1"' EXIT
[ -z "$4" ] || chown -R postgres: "$1"
$4 "$2/initdb" -D data -A trust -U sakimori -E UTF8 --locale=C --no-sync >log 2>&1
$4 "$2/postgres" -D data -k "$1" -c listen_addresses=127.0.0.1 -p "$3" -c fsync=off -c max_connections=400 \
  -c shared_buffers=16MB -c ssl=on -c ssl_cert_file="$1/server.pem" -c ssl_key_file="$1/server.key" >>log 2>&1 </dev/null &
server=$!
for _ in $(seq 600); do
  "$2/pg_isready" -q -h 127.0.0.1 -p "$3" && break
  kill -0 $server
  sleep 0.1
done
ready=1
echo ready
read -r _ || true
"#;

/// A running server.
pub struct Server {
    port: u16,
    next: AtomicU64,
    /// What its certificate is verified by, PEM.
    pub certificate: PathBuf,
    /// Holds the shell's standard input open.
    _shell: Child,
}

static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();

/// The server of this program, started at the first call. `None` where Debian's package is missing: then the test of
/// this name says that it is skipped.
pub fn server(test: &str) -> Option<&'static Server> {
    let Some(programs) = programs() else {
        sakimori_sys::harness::skip(test, "PostgreSQL (tools/packages test installs it)");
        return None;
    };
    // initdb asks for its user by name.
    if !Command::new("id").arg("-un").output().is_ok_and(|output| output.status.success()) {
        sakimori_sys::harness::skip(test, "a user whom this system knows by name");
        return None;
    }
    let server = SERVER.get_or_init(|| start(&programs));
    Some(server.as_ref().unwrap_or_else(|error| panic!("PostgreSQL did not start: {error}")))
}

/// Debian keeps each major version's programs in a folder of its own.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

fn start(programs: &Path) -> Result<Server, String> {
    let dir = tempfile::Builder::new().prefix("sakimori-pg-").tempdir().map_err(|error| error.to_string())?.keep();
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(|error| error.to_string())?;
    let certificate = dir.join("server.pem");
    let write = |path: PathBuf, text: String| {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
    };
    write(certificate.clone(), key.cert.pem()).map_err(|error| error.to_string())?;
    write(dir.join("server.key"), key.signing_key.serialize_pem()).map_err(|error| error.to_string())?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.map_err(|error| error.to_string())?.port();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    // The server refuses to run as root.
    let other = if is_root { "setpriv --reuid=postgres --regid=postgres --init-groups" } else { "" };
    let mut shell = Command::new("bash")
        .args(["-c", HOLD, "hold"])
        .arg(&dir)
        .arg(programs)
        .args([&port.to_string(), other])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    if let Some(out) = shell.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
    }
    if line != "ready\n" {
        return Err("its log is above".into());
    }
    Ok(Server { port, next: AtomicU64::new(1), certificate, _shell: shell })
}

impl Server {
    /// The URL of a new, empty database.
    pub async fn database(&self) -> String {
        use sqlx::Connection as _;
        let name = format!("test{}", self.next.fetch_add(1, Ordering::Relaxed));
        let base = format!("postgres://sakimori@127.0.0.1:{}", self.port);
        let mut connection = sqlx::PgConnection::connect(&format!("{base}/postgres")).await.expect("connects");
        let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(sql).execute(&mut connection).await.expect("makes a database");
        connection.close().await.expect("closes");
        format!("{base}/{name}")
    }
}
