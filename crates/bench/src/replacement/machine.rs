//! The replacement: a machine as an image and user data make it, in a network namespace. It has an id of its own where cloud-init
//! writes it, the group's token in a file, an agent, and a health check that passes once `sakimori-agent ready` says so.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sakimori_sys::lab::Lab;
use serde_json::Value;

use crate::platform::{Process, binary};

/// Where its health check answers, from the load balancer's side.
const HEALTH: &str = "10.99.2.2:8080";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// It, while it runs.
pub struct Machine {
    lab: Arc<Lab>,
    dir: PathBuf,
    process: Process,
}

/// What runs when it boots, as a shell script. The health check is there before the agent, as a service would be.
fn user_data(dir: &Path, id: &str, agent: &Path) -> String {
    let (dir, agent) = (dir.display(), agent.display());
    format!(
        "set -e\nmount -t tmpfs none /run\nmkdir -p /run/cloud-init\nprintf '%s\\n' '{id}' > /run/cloud-init/.instance-id\n\
         mount --bind '{dir}/machine-id' /etc/machine-id\n\
         python3 -m http.server 8080 --directory '{dir}/www' > '{dir}/health.log' 2>&1 &\n\
         '{agent}' --config '{dir}/agent.toml' run > '{dir}/agent.log' 2>&1 &\n\
         '{agent}' --config '{dir}/agent.toml' ready --wait 10m > '{dir}/ready.log'\n\
         touch '{dir}/www/health'\nwait\n"
    )
}

impl Machine {
    /// Boots it under this instance id.
    ///
    /// # Errors
    /// A file that cannot be written, or a program that does not start.
    pub fn boot(lab: &Arc<Lab>, dir: &Path, id: &str, token: &str) -> Result<Self> {
        fs::create_dir_all(dir.join("www"))?;
        fs::write(dir.join("auth.log"), "")?;
        // As an image that was prepared for copying: an id of its own at the first boot.
        let digits: String =
            id.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(32).collect();
        fs::write(dir.join("machine-id"), format!("{digits:0<32}\n"))?;
        fs::write(dir.join("token"), token)?;
        fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o600))?;
        let (state, token) = (dir.join("state"), dir.join("token"));
        let (state, token) = (state.display(), token.display());
        fs::write(
            dir.join("agent.toml"),
            format!(
                "[agent]\nstate = \"{state}\"\nhost_name = \"{id}\"\nenrolment_token = \"{token}\"\n[proof]\nevery_hours = 0\n"
            ),
        )?;
        let mut command = lab.command("second", "unshare")?;
        let script = user_data(dir, id, &binary("sakimori-agent")?);
        command.args(["--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", &script]);
        let process = Process::start(command, &dir.join("boot.log"))?;
        Ok(Self { lab: Arc::clone(lab), dir: dir.to_owned(), process })
    }

    /// What its health check answers; an error where nothing answers.
    ///
    /// # Errors
    /// Nothing answers.
    pub fn health(&self) -> Result<u16> {
        let ask = || -> Result<u16> {
            let mut stream = TcpStream::connect_timeout(&HEALTH.parse::<SocketAddr>()?, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = [0_u8; 64];
            let read = stream.read(&mut answer)?;
            let first = String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned();
            Ok(first.split(' ').nth(1).context("no status")?.parse()?)
        };
        self.lab.inside("manager", ask)?
    }

    /// What its agent still waits for, in words.
    pub fn waits_for(&self) -> String {
        let asked = self.agent(&["ready"]).and_then(|mut command| Ok(command.output()?.stdout));
        asked.map(|out| String::from_utf8_lossy(&out).into_owned()).unwrap_or_default()
    }

    /// What its agent says of itself.
    ///
    /// # Errors
    /// It says nothing.
    pub fn status(&self) -> Result<Value> {
        serde_json::from_slice(&self.agent(&["status", "--json"])?.output()?.stdout).context("the agent's status")
    }

    fn agent(&self, arguments: &[&str]) -> Result<std::process::Command> {
        let mut command = std::process::Command::new(binary("sakimori-agent")?);
        command.arg("--config").arg(self.dir.join("agent.toml")).args(arguments);
        Ok(command)
    }

    /// Takes the agent off it, and ends it.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(self) -> Result<()> {
        self.agent(&["uninstall"])?.output()?;
        self.process.kill()
    }
}
