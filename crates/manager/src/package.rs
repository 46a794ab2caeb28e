//! The agent's Debian package, for a host that has nothing of ours yet. The manager gives away the file that lies beside its own
//! program, packed by `tools/deb` of its own version and architecture, over the agents' channel: that port a host has to reach
//! anyway. Who asks shows an enrolment token, which is not used up by it.
//!
//! The command that the console shows trusts nothing of the network: curl knows the manager by the certificate of its own
//! authority, which is in the command, and what came is compared with the SHA-256 in the command before root installs it.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;
use std::{env, fs, io};

use axum::Extension;
use axum::body::Body;
use axum::extract::{self, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sakimori_store::control::enrolment;
use sakimori_wire::token::EnrolmentToken;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;
use tracing::{info, warn};
use utoipa::ToSchema;

use crate::config::Link;
use crate::link::{Presented, Service, refused};

/// Where the channel serves it: this, and the file's name.
pub const PATH: &str = "/agent/";
/// Where it lies when the programs are installed in a folder `bin`, seen from there.
const SHARE: &str = "../share/sakimori";
/// Name of the authority's certificate on the host, in the folder that the command makes for itself.
const CA_FILE: &str = "manager.pem";

/// A package that can be given away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AgentPackage)]
pub struct Package {
    /// Its file's name.
    pub name: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// The name that `tools/deb` gives to the package of this version and architecture.
pub fn name() -> String {
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("sakimori-agent_{}_{architecture}.deb", env!("CARGO_PKG_VERSION"))
}

/// Where the package has to lie: in the folder that the configuration names, else with this program.
pub fn wanted(link: &Link) -> PathBuf {
    let folder = link.packages.clone().unwrap_or_else(|| {
        let program = env::current_exe().unwrap_or_default();
        let folder = program.parent().unwrap_or(Path::new("")).to_owned();
        match (folder.file_name(), folder.parent()) {
            (Some(last), Some(_)) if last == "bin" => folder.join(SHARE),
            _ => folder,
        }
    });
    folder.join(name())
}

/// The package, where one lies there.
///
/// # Errors
/// A file that cannot be read.
pub async fn find(link: &Link) -> io::Result<Option<Package>> {
    let path = wanted(link);
    let found = tokio::task::spawn_blocking(move || look(&path)).await.map_err(io::Error::other)?;
    match found {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A file as it was when it was hashed: which, its length, when it changed, and its package.
type Hashed = (PathBuf, u64, SystemTime, Package);

/// Reads a file once and remembers its hash until it is another.
fn look(path: &Path) -> io::Result<Package> {
    static LAST: Mutex<Option<Hashed>> = Mutex::new(None);
    let mut file = fs::File::open(path)?;
    let facts = file.metadata()?;
    let changed = facts.modified()?;
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((known, bytes, at, package)) = &*last
        && (known.as_path(), *bytes, *at) == (path, facts.len(), changed)
    {
        return Ok(package.clone());
    }
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash)?;
    let package = Package { name: name(), sha256: hex::encode(hash.finalize()), bytes };
    *last = Some((path.to_owned(), bytes, changed, package.clone()));
    Ok(package)
}

/// What is typed on a Debian host, line by line: one compound command that ends at the first step that fails. The token is
/// in no program's arguments, which all users of a host see.
pub fn commands(token: &EnrolmentToken, ca_pem: &str, package: Option<&Package>) -> Vec<String> {
    let Some(Package { name, sha256, .. }) = package else {
        return vec![
            "sudo dpkg --install sakimori-agent_*.deb".to_owned(),
            format!("sudo sakimori-agent enroll {token}"),
        ];
    };
    let mut lines =
        vec![format!("(set -e; cd \"$(mktemp --directory)\"; token={token}"), format!("cat > {CA_FILE} <<'END'")];
    lines.extend(ca_pem.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()));
    lines.push("END".to_owned());
    lines.push(format!(
        "printf 'Authorization: Bearer %s' \"$token\" | curl --fail --silent --show-error --globoff --cacert {CA_FILE} --header @- \
         --remote-name 'https://{}{PATH}{name}'",
        token.address
    ));
    lines.push(format!("echo '{sha256}  {name}' | sha256sum --check"));
    lines.push(format!("sudo dpkg --install {name}"));
    lines.push("printf %s \"$token\" | sudo sakimori-agent enroll -)".to_owned());
    lines
}

/// `GET /agent/{name}` of the agents' channel.
pub(crate) async fn serve(
    State(service): State<Service>,
    Extension(presented): Extension<Presented>,
    extract::Path(asked): extract::Path<String>,
    headers: HeaderMap,
) -> Response {
    let shared = &service.shared;
    let (from, now) = (presented.address.ip().to_canonical(), shared.clock.now());
    let wait = service.guesses().wait(from, now);
    if wait > 0 {
        let head = [(header::RETRY_AFTER, wait.to_string())];
        return (StatusCode::TOO_MANY_REQUESTS, head, "too many wrong tokens came from this network\n").into_response();
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")?.parse::<EnrolmentToken>().ok());
    let known = match &token {
        Some(token) => enrolment::find(shared.control.read(), &Sha256::digest(token.secret.as_bytes()).into()).await,
        None => Ok(None),
    };
    let known = match known {
        Ok(known) => known,
        Err(problem) => return gone_wrong(&problem),
    };
    if !known.is_some_and(|token| token.uses < token.most_uses && token.expires > now && token.is_for(from)) {
        service.guesses().wrong(from, now);
        return (StatusCode::UNAUTHORIZED, format!("{}\n", refused().message())).into_response();
    }
    if asked != name() {
        return (StatusCode::NOT_FOUND, format!("this manager has {}\n", name())).into_response();
    }
    let path = wanted(&shared.config.link);
    let file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            return (StatusCode::NOT_FOUND, "no package lies beside the manager; make deb makes it\n").into_response();
        }
        Err(problem) => return gone_wrong(&problem),
    };
    let length = match file.metadata().await {
        Ok(facts) => facts.len(),
        Err(problem) => return gone_wrong(&problem),
    };
    presented.stays();
    info!(address = %from, package = asked, "gave the agent's package to a host");
    let head = [
        (header::CONTENT_TYPE, "application/vnd.debian.binary-package".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    (head, Body::from_stream(ReaderStream::new(file))).into_response()
}

fn gone_wrong(problem: &dyn std::fmt::Display) -> Response {
    warn!(error = %problem, "the agent's package could not be given away");
    (StatusCode::INTERNAL_SERVER_ERROR, "that did not work; the manager's log says why\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_again_once_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name());
        assert_eq!(look(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "one").unwrap();
        let one = look(&path).unwrap();
        assert_eq!((one.bytes, look(&path).unwrap()), (3, one.clone()));
        fs::write(&path, "other").unwrap();
        assert_ne!(look(&path).unwrap().sha256, one.sha256);
    }

    #[test]
    fn it_is_looked_for_where_the_configuration_says() {
        let link = Link { packages: Some("/srv/packages".into()), ..Link::default() };
        assert_eq!(wanted(&link), Path::new("/srv/packages").join(name()));
        let beside = wanted(&Link::default());
        assert_eq!(beside.parent(), env::current_exe().unwrap().parent(), "no bin folder is in the way");
    }

    #[test]
    fn the_command_has_the_token_once_and_in_no_arguments() {
        let token = EnrolmentToken { address: "[2001:db8::1]:7601".into(), ca_sha256: [7; 32], secret: "s".into() };
        let package = Package { name: "p.deb".into(), sha256: "ab".into(), bytes: 1 };
        let lines = commands(&token, "-----BEGIN\r\nx\r\n-----END\r\n", Some(&package));
        let whole = lines.join("\n");
        assert_eq!(whole.matches(&token.to_string()).count(), 1, "{whole}");
        assert!(!whole.contains('\r') && whole.contains("'https://[2001:db8::1]:7601/agent/p.deb'"), "{whole}");
        assert!(lines[0].starts_with("(set -e;") && whole.ends_with(')'));
        assert_eq!(commands(&token, "", None).len(), 2);
    }
}
