//! A second reader: a program of AWS's own SDK for Python beside the simulator, which builds what is acted on and reads it back.
//! It takes a line of JSON and answers one. One process for the whole of a story, since its start alone takes seconds.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result};
use sakimori_sys::lab::Lab;
use serde_json::Value;

/// It, while it runs.
pub struct SecondReader {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl SecondReader {
    /// Starts a program in the namespace `manager`, with these arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(lab: &Lab, python: &Path, program: &str, arguments: &[String]) -> Result<Self> {
        let mut command = lab.command("manager", python)?;
        command.arg("-c").arg(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("start the second reader")?;
        let to = process.stdin.take().context("no way to the second reader")?;
        let from = BufReader::new(process.stdout.take().context("no way from the second reader")?);
        Ok(Self { process, to, from })
    }

    /// Asks it.
    ///
    /// # Errors
    /// It failed, and has said why on standard error.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.to, "{request}").context("ask the second reader")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the second reader fails at {request}"))
    }
}

impl Drop for SecondReader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
