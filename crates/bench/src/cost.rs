//! What protection costs whoever works on a protected disk: a project is unpacked and built, in turn without
//! protection, under ours, and under ClamAV's `clamonacc`, each time in a fresh folder of one tmpfs.
//!
//! ClamAV gets one signature and scans with the scanner that it has; ours gets its own rules. Both refuse what they
//! find; both protect this one file system (clamonacc by the folder, since by the mount it only tells).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::api::{items, wait};
use crate::platform::{PATIENCE, Process, binary, profile, tail};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Archive of a project (tar), unpacked with `tar`; one of 3,000 files in C is made where none is named
    #[arg(long)]
    archive: Option<PathBuf>,
    /// Shell command that builds it, run where it was unpacked
    #[arg(long, default_value = "make -j2 -s")]
    build: String,
    /// Rounds; the first of each side warms the page cache and is not counted
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Measure clamonacc too (Debian's packages clamav and clamav-daemon)
    #[arg(long)]
    clamonacc: bool,
}

/// Files of the project that is made.
const FILES: usize = 3_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Bare,
    Ours,
    Clam,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "without",
            Self::Ours => "sakimori",
            Self::Clam => "clamonacc",
        }
    }
}

struct Lab {
    dir: tempfile::TempDir,
    disk: PathBuf,
    archive: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = unmount(&self.disk, UnmountFlags::DETACH);
    }
}

/// Runs it.
///
/// # Errors
/// A side that does not start, or a build that fails.
pub fn run(options: &Options) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sakimori-cost-").tempdir()?;
    // ClamAV's daemon is another user's.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let disk = dir.path().join("disk");
    fs::create_dir(&disk)?;
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=3g")).context("mount a tmpfs")?;
    let archive = match &options.archive {
        Some(archive) => std::path::absolute(archive)?,
        None => made(dir.path())?,
    };
    let lab = Lab { dir, disk, archive };
    let mut sides = vec![Side::Bare, Side::Ours];
    if options.clamonacc {
        sides.push(Side::Clam);
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    println!("unpack and build, {} build of sakimori, {} rounds", profile(), options.rounds);
    for round in 0..options.rounds {
        for (side, times) in sides.iter().zip(&mut times) {
            let [unpack, build] = lab.measure(*side, &options.build)?;
            let seconds = unpack + build;
            println!("  round {round}: {:10} {seconds:7.2} s (unpack {unpack:.2}, build {build:.2})", side.name());
            if round > 0 {
                times.push(seconds);
            }
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    let bare = medians.first().copied().unwrap_or(f64::NAN);
    for (side, time) in sides.iter().zip(&medians) {
        println!("{:10} median {time:7.2} s  {:+.1} %", side.name(), (time / bare - 1.0) * 100.0);
    }
    if let [_, ours, clam] = medians.as_slice() {
        println!("added by sakimori / added by clamonacc: {:.2}", (ours - bare) / (clam - bare));
    }
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A project of small C files, each with a header of its own and three that all share.
fn made(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("project");
    fs::create_dir(&root)?;
    for number in 0..3 {
        fs::write(root.join(format!("shared{number}.h")), format!("int shared{number}(int);\n").repeat(40))?;
    }
    for number in 0..FILES / 2 {
        fs::write(root.join(format!("f{number}.h")), format!("int f{number}(int);\n"))?;
        let text = format!(
            "#include \"shared0.h\"\n#include \"shared1.h\"\n#include \"shared2.h\"\n#include \"f{number}.h\"\n\
             int f{number}(int x) {{ return x * {number}; }}\n"
        );
        fs::write(root.join(format!("f{number}.c")), text)?;
    }
    fs::write(
        root.join("Makefile"),
        "OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))\nall.a: $(OBJECTS)\n\t@ar rcs $@ $(OBJECTS)\n\
         %.o: %.c\n\t@cc -O0 -c $< -o $@\n",
    )?;
    let archive = dir.join("project.tar");
    done(Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(&root).arg("."))?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}

fn done(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        bail!("{:?}: {}", command.get_program(), text.lines().rev().take(5).collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

impl Lab {
    /// Seconds of unpacking and of building.
    fn measure(&self, side: Side, build: &str) -> Result<[f64; 2]> {
        let guard = match side {
            Side::Bare => None,
            Side::Ours => Some(Guard::Ours(self.ours()?)),
            Side::Clam => Some(Guard::Clam(self.clam()?)),
        };
        let place = self.disk.join("work");
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir(&place)?;
        let began = Instant::now();
        done(Command::new("tar").arg("xf").arg(&self.archive).arg("--no-same-owner").arg("-C").arg(&place))?;
        let unpacked = began.elapsed();
        done(Command::new("sh").args(["-c", build]).current_dir(&place).env_remove("CARGO_TARGET_DIR"))?;
        let took = [unpacked, began.elapsed().saturating_sub(unpacked)].map(|time| time.as_secs_f64());
        if guard.is_some() {
            self.proven(side)?;
        }
        drop(guard);
        if side == Side::Ours {
            self.agent(&["uninstall"])?;
        }
        Ok(took)
    }

    /// A protection that lets the test file through is not measured.
    fn proven(&self, side: Side) -> Result<()> {
        let path = self.disk.join("proof.com");
        let test = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat();
        fs::write(&path, test)?;
        let opened = fs::read(&path).is_ok();
        let _ = fs::remove_file(&path);
        if opened { bail!("{} did not refuse the test file", side.name()) } else { Ok(()) }
    }

    fn agent(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let config = self.dir.path().join("agent.toml");
        let mut command = Command::new(binary("sakimori-agent")?);
        Ok(command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).output()?.stdout)
    }

    fn ours(&self) -> Result<Process> {
        let dir = self.dir.path();
        fs::write(
            dir.join("agent.toml"),
            format!(
                "[agent]\nstate = \"{}\"\n[block_address]\ntable = \"skm_cost\"\n[policy.modules.log_inspection]\n\
                 state = \"off\"\n[policy.modules.block_address]\nstate = \"off\"\n[policy.modules.antimalware]\n\
                 state = \"on\"\npaths = [\"{}\"]\n",
                dir.join("agent").display(),
                self.disk.display()
            ),
        )?;
        let mut command = Command::new(binary("sakimori-agent")?);
        command.arg("--config").arg(dir.join("agent.toml")).arg("run");
        let process = Process::start(command, &dir.join("agent.log"))?;
        wait("malware protection is on", PATIENCE, || {
            let status: serde_json::Value = self
                .agent(&["status", "--json"])
                .ok()
                .and_then(|out| serde_json::from_slice(&out).ok())
                .unwrap_or_default();
            items(&serde_json::json!({"items": status.get("modules")}))
                .iter()
                .any(|one| one["id"] == "antimalware" && one["state"] == "on")
        })
        .with_context(|| tail(&dir.join("agent.log")))?;
        Ok(process)
    }

    fn clam(&self) -> Result<[Process; 2]> {
        let dir = self.dir.path();
        let database = dir.join("clamdb");
        fs::create_dir_all(&database)?;
        // One signature: the beginning of the test file, in hexadecimal.
        fs::write(
            database.join("own.ndb"),
            format!("Own.Test:0:0:{}\n", hex::encode("X5O!P%@AP[4\\PZX54(P^)7CC)7}$")),
        )?;
        let socket = dir.join("clamd.sock");
        let config = dir.join("clamd.conf");
        fs::write(
            &config,
            format!(
                "LocalSocket {}\nDatabaseDirectory {}\nUser clamav\nForeground yes\nOnAccessIncludePath {}\n\
                 OnAccessPrevention yes\nOnAccessExcludeUname clamav\nSelfCheck 0\n",
                socket.display(),
                database.display(),
                self.disk.display()
            ),
        )?;
        // The daemon drops to a user that may make its socket here.
        done(Command::new("chown").arg("clamav").arg(dir))?;
        let _ = fs::remove_file(&socket);
        let mut command = Command::new("clamd");
        command.arg("--config-file").arg(&config);
        let daemon = Process::start(command, &dir.join("clamd.log"))?;
        wait("clamd listens", PATIENCE, || std::os::unix::net::UnixStream::connect(&socket).is_ok())
            .with_context(|| tail(&dir.join("clamd.log")))?;
        let mut command = Command::new("clamonacc");
        command.args(["--foreground", "--fdpass", "--config-file"]).arg(&config);
        let access = Process::start(command, &dir.join("clamonacc.log"))?;
        wait("clamonacc refuses", PATIENCE, || self.proven(Side::Clam).is_ok())
            .with_context(|| tail(&dir.join("clamonacc.log")))?;
        Ok([access, daemon])
    }
}

/// What runs while it is measured, ended when it goes.
#[allow(dead_code)] // held for their end
enum Guard {
    Ours(Process),
    Clam([Process; 2]),
}
