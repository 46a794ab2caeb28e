//! What an installation takes at rest and at work: memory, processor time and the size of the programs.
//!
//! A manager and an agent with every module on (a protected tmpfs, packets of the loopback interface through the queue,
//! logs, blocks), with thousands of YARA rules more than our own. First they rest for minutes; then log lines, files and
//! requests come for a while.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sakimori_sys::lab::Lab;

use crate::api::wait;
use crate::platform::{PATIENCE, Places, Platform, binary, profile, tail};
use crate::usage::{Usage, of, tree};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of rest
    #[arg(long, default_value_t = 300)]
    idle: u64,
    /// Seconds before that in which what was just started comes to rest
    #[arg(long, default_value_t = 30)]
    settle: u64,
    /// Seconds of work
    #[arg(long, default_value_t = 30)]
    busy: u64,
    /// YARA rules that are made and added to our own
    #[arg(long, default_value_t = 2_000)]
    yara: usize,
    /// Network rules that are made and added to our own
    #[arg(long, default_value_t = 0)]
    network: usize,
}

struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Runs it.
///
/// # Errors
/// A part that does not start, or a module that does not come on.
pub fn run(options: &Options) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sakimori-resources-").tempdir()?;
    let disk = dir.path().join("disk");
    fs::create_dir(&disk)?;
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=1g")).context("mount a tmpfs")?;
    let disk = Disk(disk);
    for (folder, file, text) in [
        ("malware", "made.yar", crate::yara::made(options.yara)),
        ("network", "made.rules", crate::network::rules(options.network)),
    ] {
        let folder = dir.path().join("content").join(folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(file), text)?;
    }
    let log = dir.path().join("auth.log");
    fs::write(&log, "")?;
    let mut lab = Lab::new("skmres")?;
    lab.add("host")?;
    let lab = Arc::new(lab);
    let platform = platform(dir.path(), &disk.0, &log, &lab)?;
    let agent = platform.agent.as_ref().context("the agent runs")?.pid();
    let manager = platform.manager.as_ref().context("the manager runs")?.pid();
    let name = dir.path().join("agent").to_string_lossy().into_owned();
    let sides = [("agent", agent, Some(name.as_str())), ("manager", manager, None)];
    println!("{} build, {} YARA and {} network rules more than our own", profile(), options.yara, options.network);
    for program in ["sakimori-agent", "sakimori"] {
        println!("  {program}: {:.1} MiB on disk", binary(program)?.metadata()?.len() as f64 / 1_048_576.0);
    }
    measure("coming to rest", options.settle, &sides);
    let before: Vec<(&str, u32, Usage)> = sides
        .iter()
        .flat_map(|(name, root, named)| tree(*root, *named).into_iter().map(|pid| (*name, pid, of(&[pid]))))
        .collect();
    measure("at rest", options.idle, &sides);
    for (name, pid, before) in before {
        let now = of(&[pid]);
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let program: Vec<&str> = line.split_whitespace().take(2).collect();
        println!(
            "    {name}: {:6.1} MiB, {:5.2} s of processor time: {}",
            mebibytes(now.shared_out),
            now.seconds - before.seconds,
            program.join(" ").rsplit('/').next().unwrap_or_default()
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    let workers = work(&stop, &disk.0, &log, &lab)?;
    measure("at work", options.busy, &sides);
    stop.store(true, Ordering::Release);
    for worker in workers {
        let done = worker.join().ok().context("a load panicked")??;
        println!("  {done}");
    }
    platform.stop()
}

fn platform(dir: &Path, disk: &Path, log: &Path, lab: &Arc<Lab>) -> Result<Platform> {
    let places = Places {
        lab: Some((Arc::clone(lab), "host".into(), "host".into())),
        link: "127.0.0.1:7601".into(),
        api: "127.0.0.1:7600".into(),
    };
    let content = format!("content_dir = \"{}\"", dir.join("content").display());
    let mut platform = Platform::start(dir, places, &content, "[intrusion_prevention]\ntable = \"skm_resources\"\n")?;
    let policy = serde_json::json!({"modules": {
        "log_inspection": {"state": "on", "sources": [{"name": "auth", "source": "linux/auth", "file": log, "zone": "UTC"}]},
        "block_address": {"state": "on"},
        "intrusion_prevention": {"state": "on", "mode": "detect"},
        "antimalware": {"state": "on", "paths": [disk]},
    }});
    platform.api.call("PUT", "/api/v1/policies/layers/tenant", Some(serde_json::json!({"tree": policy})))?;
    platform.enrol()?;
    wait("every module is on", 2 * PATIENCE, || {
        let modules = platform.agent_status().and_then(|status| status.get("modules")?.as_array().cloned());
        let on = |id: &str| {
            modules.iter().flatten().any(|one| {
                one.get("id").is_some_and(|value| value == id) && one.get("state").is_some_and(|value| value == "on")
            })
        };
        ["log_inspection", "block_address", "intrusion_prevention", "antimalware"].into_iter().all(on)
    })
    .with_context(|| {
        format!(
            "{:?}\n{}",
            platform.agent_status().and_then(|status| status.get("modules").cloned()),
            tail(&dir.join("agent.log"))
        )
    })?;
    Ok(platform)
}

/// Looks at both every second, and prints the most memory and the share of one processor.
fn measure(what: &str, seconds: u64, sides: &[(&str, u32, Option<&str>)]) {
    let began = Instant::now();
    let now = || sides.iter().map(|(_, root, named)| of(&tree(*root, *named))).collect::<Vec<Usage>>();
    let first = now();
    let mut most = first.clone();
    let mut last = first.clone();
    while began.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_secs(1).min(Duration::from_secs(seconds)));
        last = now();
        for (most, last) in most.iter_mut().zip(&last) {
            most.shared_out = most.shared_out.max(last.shared_out);
            most.anonymous = most.anonymous.max(last.anonymous);
        }
    }
    let wall = began.elapsed().as_secs_f64();
    for ((((name, ..), first), last), most) in sides.iter().zip(&first).zip(&last).zip(&most) {
        println!(
            "  {what}, {wall:.0} s: {name:8} {:2} processes, {:6.1} MiB resident (shared pages shared out), {:6.1} MiB \
             anonymous, {:6.2} % of a processor",
            last.processes,
            mebibytes(most.shared_out),
            mebibytes(most.anonymous),
            (last.seconds - first.seconds) / wall * 100.0
        );
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

type Load = std::thread::JoinHandle<Result<String>>;

/// Log lines, files and requests, each on a thread of its own, until they shall stop.
fn work(stop: &Arc<AtomicBool>, disk: &Path, log: &Path, lab: &Arc<Lab>) -> Result<[Load; 3]> {
    let paced = |stop: &AtomicBool, mut step: Box<dyn FnMut(u64) -> Result<()> + Send>| -> Result<u64> {
        let mut count = 0;
        while !stop.load(Ordering::Acquire) {
            step(count)?;
            count += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(count)
    };
    let thread = || std::thread::Builder::new().name("load".into());
    let (stop_lines, mut file) = (Arc::clone(stop), OpenOptions::new().append(true).open(log)?);
    let lines = thread().spawn(move || {
        let count = paced(
            &stop_lines,
            Box::new(move |number| {
                let host = number % 200;
                Ok(writeln!(
                    file,
                    "Nov 26 10:00:00 web1 sshd[{number}]: Accepted publickey for deploy from 192.0.2.{host} port 4242 ssh2"
                )?)
            }),
        )?;
        Ok(format!("{count} log lines"))
    })?;
    let (stop_files, folder) = (Arc::clone(stop), disk.to_owned());
    let files = thread().spawn(move || {
        let count = paced(
            &stop_files,
            Box::new(move |number| {
                let path = folder.join(format!("file{}", number % 1_000));
                fs::write(&path, format!("int f{number}(int x) {{ return x * {number}; }}\n").repeat(50))?;
                fs::read(&path)?;
                Ok(())
            }),
        )?;
        Ok(format!("{count} files written and read"))
    })?;
    let listener = lab.inside("host", || TcpListener::bind("127.0.0.1:8080"))??;
    thread().spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream);
        }
    })?;
    let (stop_requests, lab) = (Arc::clone(stop), Arc::clone(lab));
    let requests = thread().spawn(move || {
        let count = lab.inside("host", || {
            paced(
                &stop_requests,
                Box::new(|number| {
                    let mut stream = TcpStream::connect("127.0.0.1:8080")?;
                    // In one piece: the server reads once, answers and closes.
                    let line = format!("GET /page/{number}?q=a HTTP/1.1\r\n");
                    stream.write_all(format!("{line}Host: www.example\r\nConnection: close\r\n\r\n").as_bytes())?;
                    stream.read_to_end(&mut Vec::new())?;
                    Ok(())
                }),
            )
        })??;
        Ok(format!("{count} requests, each on a connection of its own"))
    })?;
    Ok([lines, files, requests])
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut request = [0; 4_096];
    let _ = stream.read(&mut request)?;
    let body = "x".repeat(2_000);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(())
}
