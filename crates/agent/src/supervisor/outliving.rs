//! A process of this program that outlives this one: the keeper, and the pump of a queue. What a kernel waits for must not
//! end with an upgrade, so it has a group of its own without a budget, and memory that runs out passes it over.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use sakimori_sys::cgroup::Group;

/// One that was just started.
pub struct Outliving {
    name: &'static str,
    child: Child,
}

impl Outliving {
    /// Starts `<this program> <name> <arguments>`, called `sakimori-<name>`, in the group where there is one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &'static str,
        arguments: impl IntoIterator<Item = A>,
        group: Option<&Group>,
    ) -> Result<Self> {
        // By this name the kernel finds the file itself, whatever became of its path.
        let child = Command::new("/proc/self/exe")
            .arg0(format!("sakimori-{name}"))
            .arg(name)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        if let Some(Err(error)) = group.map(|group| group.add(child.id())) {
            tracing::warn!(name, %error, "it shares the agent's budget");
        }
        if let Err(error) = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "-1000") {
            tracing::warn!(name, %error, "it is not spared when memory runs out");
        }
        Ok(Self { name, child })
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Lets it be. A thread waits for it, so that it leaves no corpse when it ends before this process.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn leave(mut self) -> Result<()> {
        let thread = std::thread::Builder::new().name(self.name.into());
        thread.spawn(move || self.child.wait()).map(drop).context("cannot start a thread")
    }
}
