//! What tests of this and other crates share beside cargo's own harness: the one way to say that a test is skipped, and
//! the `main` of a test file whose program is started again as a worker.
//!
//! A test that lacks something says so and returns: `if !harness::root() { return; }`. It then counts as passed for cargo,
//! so each skip is a line of the file that [`SKIPPED`] names (`make test` sets it, and ends with their number and names).

use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rights;

/// Environment variable: the file to which skipped tests are written, each with what it needs.
pub const SKIPPED: &str = "SAKIMORI_SKIPPED";

thread_local! {
    /// The test that [`run`] runs on this thread.
    static RUNNING: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Rights of root that tests of the host need, by their number: a root without one of them is not root here.
const RIGHTS: &[(&str, u32)] = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_ADMIN", rights::NET_ADMIN),
    ("CAP_SYS_ADMIN", rights::SYS_ADMIN),
];

/// Is the condition met? Where not, the running test is noted as skipped, since it needs this.
pub fn needs(condition: bool, what: &str) -> bool {
    if !condition {
        // Cargo's own harness names the thread after the test.
        let (thread, running) = (std::thread::current(), RUNNING.get());
        skip(running.or(thread.name()).unwrap_or("main"), what);
    }
    condition
}

/// Is this root with its usual rights?
pub fn root() -> bool {
    match lacks_root() {
        None => true,
        Some(what) => needs(false, &what),
    }
}

/// What is missing to be root with its usual rights.
pub fn lacks_root() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".into());
    }
    RIGHTS.iter().find(|(_, number)| !rights::holds(*number)).map(|(name, _)| format!("root with {name}"))
}

/// Notes that the test of this name is skipped, and what it needs.
pub fn skip(test: &str, needs: &str) {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_stem()).map(|name| name.to_string_lossy().into_owned());
    // Cargo appends a hash to the name.
    let name = name.unwrap_or_default();
    let file = name.rsplit_once('-').map_or(name.as_str(), |(name, _)| name);
    eprintln!("skipped: {file}: {test} (needs {needs})");
    let Some(path) = std::env::var_os(SKIPPED) else { return };
    let line = format!("{file}: {test} (needs {needs})\n");
    let written = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("cannot note it in {}: {error}", path.display());
    }
}

/// Writes a program that a test then starts; anybody may run it.
///
/// It is written by a process of its own. Were it written by this one, a child that another thread starts at that moment
/// would hold the file open for writing until its own program runs, and this one could not be started (`ETXTBSY`).
///
/// # Errors
/// It could not be written.
pub fn program(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let write = "cat > \"$1\" && chmod 755 \"$1\"";
    let mut child = Command::new("sh").args(["-c", write, "sh"]).arg(path).stdin(Stdio::piped()).spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut to| to.write_all(bytes));
    let status = child.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{}: {status}", path.display()))) }
}

/// A mount namespace of this process's own, whose mounts nobody else sees and which goes with it. Called before there
/// are threads.
///
/// # Errors
/// No right to make one.
pub fn private_mounts() -> std::io::Result<()> {
    // SAFETY: numbers only; threads that exist already would keep the former namespace, which harms nothing.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

/// Runs the tests whose name contains the filter, one after the other, as `cargo test` asks and reads it. `ready` says
/// what is missing where none can be run here: they are skipped. A test fails by a panic, which ends the process.
pub fn run(filter: &str, tests: &[(&'static str, fn())], ready: impl FnOnce() -> Result<(), String>) {
    if filter == "--list" {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filter = if filter.starts_with('-') { "" } else { filter };
    let ready = ready();
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(filter)) {
        if let Err(needs) = &ready {
            skip(name, needs);
            println!("test {name} ... skipped: needs {needs}");
            continue;
        }
        RUNNING.set(Some(name));
        test();
        println!("test {name} ... ok");
    }
}
