//! A whole platform for a measurement: a manager and an agent as real processes, from the binaries beside this
//! program, in a folder of their own.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_runtime::SystemClock;
use sakimori_store::control::Control;
use sakimori_sys::lab::Lab;

use crate::api::{Api, wait};

/// How long a part of the platform may take to be ready.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binaries beside this program.
///
/// # Errors
/// They are not there: nothing else is measured in their place.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("this program lies in a folder")?.join(name);
    if !path.is_file() {
        bail!("{} is not beside this program; build all of one profile first (make bench)", path.display());
    }
    Ok(path)
}

/// `debug` or `release`, from the folder that the binaries lie in.
pub fn profile() -> String {
    let own = std::env::current_exe().ok();
    own.and_then(|path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned())).unwrap_or_default()
}

/// A process that ends with its owner.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it, its output appended to a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its end awaited.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        wait("a process ends", PATIENCE, || matches!(self.child.try_wait(), Ok(Some(_))))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Where the parts run and how they reach each other.
pub struct Places {
    /// Namespaces of manager and host, where the platform is spread over some.
    pub lab: Option<(Arc<Lab>, String, String)>,
    /// Address of the agents' channel.
    pub link: String,
    /// Address of the API.
    pub api: String,
}

impl Places {
    /// All on loopback, on free ports.
    ///
    /// # Errors
    /// No free port.
    pub fn loopback() -> Result<Self> {
        let free = || -> Result<String> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string()) };
        Ok(Self { lab: None, link: free()?, api: free()? })
    }

    fn command(&self, host: bool, program: &Path) -> Result<Command> {
        Ok(match &self.lab {
            Some((lab, manager_side, host_side)) => {
                lab.command(if host { host_side } else { manager_side }, program)?
            }
            None => Command::new(program),
        })
    }
}

/// The platform.
pub struct Platform {
    /// Its folder.
    pub dir: PathBuf,
    /// Where its parts run.
    pub places: Places,
    /// A client, logged in.
    pub api: Api,
    /// The manager, while it runs.
    pub manager: Option<Process>,
    /// The agent, while it runs.
    pub agent: Option<Process>,
    /// The agent's id.
    pub agent_id: String,
    /// Name of the agent's nftables table.
    pub table: String,
}

impl Platform {
    /// Makes folders and configuration, starts the manager, logs in. `more` is added to the manager's
    /// configuration, `agent_more` to the agent's.
    ///
    /// # Errors
    /// A part that does not start.
    pub fn start(dir: &Path, places: Places, more: &str, agent_more: &str) -> Result<Self> {
        let state = dir.join("manager");
        fs::create_dir_all(&state)?;
        let table = format!("skm_b{}", std::process::id());
        // Keys of the whole come before the first section.
        let (keys, sections) = more.split_at(more.find('[').unwrap_or(more.len()));
        fs::write(
            dir.join("manager.toml"),
            format!(
                "state_dir = \"{}\"\n{keys}\n[api]\nlisten = \"{}\"\n[link]\nlisten = \"{}\"\n{sections}\n",
                state.display(),
                places.api,
                places.link
            ),
        )?;
        fs::write(
            dir.join("agent.toml"),
            format!(
                "[agent]\nstate = \"{}\"\nhost_name = \"web1\"\n[proof]\nevery_hours = 0\n[block_address]\ntable = \"{table}\"\n{agent_more}\n",
                dir.join("agent").display()
            ),
        )?;
        let password = first_user(&state)?;
        let within = places.lab.as_ref().map(|(lab, manager, _)| (Arc::clone(lab), manager.clone()));
        let mut platform = Self {
            dir: dir.to_owned(),
            api: Api::new(&format!("http://{}", places.api), within),
            places,
            manager: None,
            agent: None,
            agent_id: String::new(),
            table,
        };
        platform.start_manager()?;
        platform.api.login("admin", &password)?;
        Ok(platform)
    }

    /// Starts the manager (again) and waits until it is ready.
    ///
    /// # Errors
    /// It is not in time.
    pub fn start_manager(&mut self) -> Result<()> {
        let mut command = self.places.command(false, &binary("sakimori")?)?;
        command.arg("manager").arg("--config").arg(self.dir.join("manager.toml"));
        command.envs([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]);
        fs::write(self.dir.join("started"), "")?;
        self.manager = Some(Process::start(command, &self.dir.join("manager.log"))?);
        self.api.ready(PATIENCE).with_context(|| tail(&self.dir.join("manager.log")))
    }

    /// Enrols the host and starts its agent.
    ///
    /// # Errors
    /// It cannot be enrolled, or is not connected in time.
    pub fn enrol(&mut self) -> Result<()> {
        let body = serde_json::json!({"name": "bench"});
        let answer = self.api.call("POST", "/api/v1/enrolment-tokens", Some(body))?;
        let token = answer.get("token").and_then(serde_json::Value::as_str).context("no token in the answer")?;
        let mut command = self.places.command(true, &binary("sakimori-agent")?)?;
        let out =
            command.arg("--config").arg(self.dir.join("agent.toml")).args(["enroll", token, "--json"]).output()?;
        if !out.status.success() {
            bail!("enrol: {}", String::from_utf8_lossy(&out.stderr));
        }
        let enrolled: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        let id = enrolled.get("agent_id").and_then(serde_json::Value::as_str).context("no agent id in the answer")?;
        self.agent_id = id.to_owned();
        self.start_agent()
    }

    /// Starts the agent (again).
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn start_agent(&mut self) -> Result<()> {
        let mut command = self.places.command(true, &binary("sakimori-agent")?)?;
        command.arg("--config").arg(self.dir.join("agent.toml")).arg("run");
        self.agent = Some(Process::start(command, &self.dir.join("agent.log"))?);
        wait("the agent answers", PATIENCE, || self.agent_status().is_some())
            .with_context(|| tail(&self.dir.join("agent.log")))?;
        Ok(())
    }

    /// What the agent says of itself.
    pub fn agent_status(&self) -> Option<serde_json::Value> {
        let out = self.agent_command(&["status", "--json"]).ok()?.output().ok()?;
        let status: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
        status.get("agent").is_some().then_some(status)
    }

    /// A command line of the agent's.
    ///
    /// # Errors
    /// No binary.
    pub fn agent_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("sakimori-agent")?);
        command.arg("--config").arg(self.dir.join("agent.toml")).args(arguments);
        Ok(command)
    }

    /// Waits until an input of the agent reads.
    ///
    /// # Errors
    /// It does not in time.
    pub fn reading(&self, input: &str) -> Result<()> {
        wait(&format!("input {input} is read"), PATIENCE, || {
            self.agent_status().is_some_and(|status| {
                crate::api::items(&serde_json::json!({"items": status.get("inputs")})).iter().any(|one| {
                    one.get("name").is_some_and(|name| name == input)
                        && one.get("state").is_some_and(|state| state == "reading")
                })
            })
        })
        .with_context(|| tail(&self.dir.join("agent.log")))?;
        Ok(())
    }

    /// Ends both in good order; the agent's table and keeper go with the rest.
    ///
    /// # Errors
    /// One that does not end.
    pub fn stop(mut self) -> Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.stop()?;
        }
        if let Some(manager) = self.manager.take() {
            manager.stop()?;
        }
        Ok(())
    }

    fn uninstall(&self) -> Result<()> {
        let mut command = self.places.command(true, &binary("sakimori-agent")?)?;
        command.arg("--config").arg(self.dir.join("agent.toml")).arg("uninstall");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        Ok(())
    }
}

impl Drop for Platform {
    /// Whatever happened, no table and no keeper is left.
    fn drop(&mut self) {
        self.agent = None;
        let _ = self.uninstall();
    }
}

/// Makes the user `admin` before the manager's first start.
fn first_user(state: &Path) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let control = Control::open(&format!("sqlite:{}", state.join("control.db").display())).await?;
        let password = sakimori_manager::api::ensure_first_user(&control, &SystemClock).await?;
        control.close().await;
        password.context("the folder holds a user already")
    })
}

/// The end of a log file, for an error.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    format!("{}:\n{}", path.display(), lines.get(from..).unwrap_or_default().join("\n"))
}
