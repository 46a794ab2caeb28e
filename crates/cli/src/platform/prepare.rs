//! What `up` does before anything runs: folders, configurations, the first user, and a token for the commands.
//! What is there stays as it is, save what the user named.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sakimori_manager::api::ensure_first_user;
use sakimori_manager::config::Config;
use sakimori_model::ledger::Hash;
use sakimori_runtime::SystemClock;
use sakimori_store::control::users::Role;
use sakimori_store::control::{ALL_TENANTS, Control, audit, tokens};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::Paths;
use crate::api::Access;
use crate::commands::{block_on, now};

/// Name of the token in cli.toml.
const TOKEN_NAME: &str = "root on the manager's machine";

/// Makes a folder that root alone may enter.
pub fn folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Makes folders and configurations.
pub fn configs(paths: &Paths, api: Option<SocketAddr>, link: Option<SocketAddr>) -> Result<()> {
    folder(&paths.state)?;
    folder(&paths.logs)?;
    if let Some(probe) = paths.probe.parent() {
        folder(probe)?;
    }
    let mut manager = read(&paths.manager_config)?;
    let before = manager.clone();
    manager.entry("state_dir").or_insert_with(|| Value::String(paths.state.join("manager").display().to_string()));
    for (section, address) in [("api", api), ("link", link)] {
        if let Some(address) = address {
            let table = manager.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = table {
                table.insert("listen".into(), Value::String(address.to_string()));
            }
        }
    }
    if manager != before {
        write(&paths.manager_config, &manager)?;
    }
    if !paths.agent_config.is_file() {
        let state = Value::String(paths.state.join("agent").display().to_string());
        let agent = Table::from_iter([("state".to_owned(), state)]);
        write(&paths.agent_config, &Table::from_iter([("agent".to_owned(), Value::Table(agent))]))?;
    }
    agent_follows(paths)
}

/// Tells this machine's agent where the manager is now, where it knows another address from its enrolment or from here.
fn agent_follows(paths: &Paths) -> Result<()> {
    let link = manager_config(paths)?.link;
    let mut agent = read(&paths.agent_config)?;
    let Some(Value::Table(table)) = agent.get_mut("agent") else { return Ok(()) };
    let known =
        table.get("manager").and_then(Value::as_str).map(str::to_owned).or_else(|| paths.enrolled("link_address"));
    let here = reachable(link.listen).to_string();
    if link.listen.port() == 0 || known.is_none_or(|known| known == here || known == link.advertise) {
        return Ok(());
    }
    table.insert("manager".into(), Value::String(here));
    write(&paths.agent_config, &agent)
}

/// What to connect to on this machine for an address that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    address
}

fn read(path: &Path) -> Result<Table> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, table: &Table) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, toml::to_string(table)?)
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The manager's configuration.
pub fn manager_config(paths: &Paths) -> Result<Config> {
    Ok(sakimori_runtime::config::load(Some(&paths.manager_config), true, std::env::vars())?)
}

/// Are the addresses free that the manager is to listen on?
pub fn free_ports(paths: &Paths) -> Result<()> {
    let config = manager_config(paths)?;
    for (flag, address) in [("--api", config.api.listen), ("--link", config.link.listen)] {
        if let Err(error) = TcpListener::bind(address) {
            if error.kind() == std::io::ErrorKind::AddrInUse {
                bail!(
                    "{address} is taken by another program (ss -ltnp 'sport = :{}' shows which); end that one, or \
                     choose another address with {flag}",
                    address.port()
                );
            }
            bail!("cannot listen on {address}: {error}; choose another address with {flag}");
        }
    }
    Ok(())
}

/// Sees to the first user and to a token that works. Returns the first user's password where it was made now.
pub fn access(paths: &Paths) -> Result<Option<String>> {
    let config = manager_config(paths)?;
    folder(&config.state_dir)?;
    let tls = config.api.tls || config.api.certificate.is_some() || !config.api.listen.ip().is_loopback();
    let server = format!("{}://{}", if tls { "https" } else { "http" }, reachable(config.api.listen));
    let ca = tls.then(|| config.api.certificate.clone().unwrap_or_else(|| config.state_dir.join("ca/ca.pem")));
    let kept = Access::load(&paths.state).ok().flatten();
    block_on(async {
        let control = Control::open(&config.control_url()).await.context("cannot open control state")?;
        let password = ensure_first_user(&control, &SystemClock).await?;
        let known = match &kept {
            Some(kept) => tokens::by_secret(control.read(), &hash(&kept.token), now()).await?.is_some(),
            None => false,
        };
        let token = match kept {
            Some(kept) if known => kept.token,
            _ => make_token(&control).await?,
        };
        control.close().await;
        Access { server, token, ca }.save(&paths.state)?;
        Ok(password)
    })
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Makes a token in the control database itself: root on this machine may do everything anyway.
async fn make_token(control: &Control) -> Result<String> {
    let secret = format!("skt_{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
    let token = tokens::Token {
        tenant: ALL_TENANTS.to_owned(),
        id: sakimori_model::id::row_id(),
        name: TOKEN_NAME.to_owned(),
        role: Role::Admin,
        prefix: secret.chars().take(8).collect(),
        created_by: "system".to_owned(),
        created: now(),
        expires: None,
        last_used: None,
    };
    let mut change = control.begin().await?;
    tokens::create(change.connection(), &token, &hash(&secret)).await?;
    change
        .audit(&audit::Entry {
            tenant: ALL_TENANTS,
            time: token.created,
            actor: "system",
            action: "tokens:create",
            target: &token.id,
            before: None,
            after: None,
            address: "",
            request: "",
        })
        .await?;
    change.commit().await?;
    Ok(secret)
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("the kernel gives no random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_wrote_stays_and_what_he_names_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        configs(&paths, None, None).unwrap();
        let text = std::fs::read_to_string(&paths.manager_config).unwrap();
        std::fs::write(&paths.manager_config, format!("# mine\n{text}[lake]\nflush_seconds = 7\n")).unwrap();
        configs(&paths, None, None).unwrap();
        assert!(std::fs::read_to_string(&paths.manager_config).unwrap().starts_with("# mine"));
        configs(&paths, Some("127.0.0.1:7700".parse().unwrap()), None).unwrap();
        let config = manager_config(&paths).unwrap();
        assert_eq!((config.lake.flush_seconds, config.api.listen.port()), (7, 7700));
        assert_eq!(config.state_dir, dir.path().join("manager"));
    }

    #[test]
    fn this_machines_agent_is_told_where_the_manager_moved_to() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let named =
            || read(&paths.agent_config).unwrap()["agent"].get("manager").map(|at| at.as_str().unwrap().to_owned());
        let at = |address: &str| configs(&paths, None, Some(address.parse().unwrap())).unwrap();
        at("127.0.0.1:7701");
        assert_eq!(named(), None, "a token will say it");
        std::fs::create_dir(dir.path().join("agent")).unwrap();
        std::fs::write(&paths.enrolled, r#"{"agent_id": "a", "link_address": "127.0.0.1:7701"}"#).unwrap();
        at("127.0.0.1:7701");
        assert_eq!(named(), None, "it is where enrolment said");
        at("192.0.2.1:7601");
        assert_eq!(named().as_deref(), Some("192.0.2.1:7601"));
        at("0.0.0.0:7601");
        assert_eq!(named().as_deref(), Some("127.0.0.1:7601"));
        assert_eq!(read(&paths.agent_config).unwrap()["agent"]["state"].as_str(), dir.path().join("agent").to_str());
    }

    #[test]
    fn a_taken_port_is_named_with_the_next_step() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        configs(&paths, Some(taken.local_addr().unwrap()), None).unwrap();
        let error = free_ports(&paths).unwrap_err().to_string();
        assert!(error.contains("is taken by another program") && error.contains("--api"), "{error}");
    }

    #[test]
    fn the_token_is_made_once_and_made_anew_when_it_does_not_work() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        configs(&paths, None, None).unwrap();
        assert!(access(&paths).unwrap().is_some());
        let first = Access::load(&paths.state).unwrap().unwrap();
        assert!(access(&paths).unwrap().is_none());
        assert_eq!(Access::load(&paths.state).unwrap().unwrap().token, first.token);
        Access { token: "skt_other".into(), ..first.clone() }.save(&paths.state).unwrap();
        access(&paths).unwrap();
        let third = Access::load(&paths.state).unwrap().unwrap().token;
        assert!(third.starts_with("skt_") && third.len() == 47 && third != first.token);
    }
}
