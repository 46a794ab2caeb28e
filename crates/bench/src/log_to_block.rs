//! Side by side with fail2ban on the same burst: how long from the deciding line to the first refused packet,
//! how many lines a CPU second, how much memory.
//!
//! Each side runs in a namespace of its own with its own log file and blocks in its own nftables. The refused
//! packet is seen by a client that sends a datagram each half millisecond to a socket that counts: the time of
//! the last one that arrived is the time of the block.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_sys::lab::{End, Lab};

use crate::api::wait;
use crate::platform::{PATIENCE, Process, binary, profile, tail};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Bursts that are timed.
    #[arg(long, default_value_t = 50)]
    bursts: usize,
    /// Lines for the throughput.
    #[arg(long, default_value_t = 100_000)]
    lines: u64,
    /// Addresses that they come from.
    #[arg(long, default_value_t = 10_000)]
    addresses: u64,
    /// Measure fail2ban too (Debian's package fail2ban).
    #[arg(long)]
    fail2ban: bool,
}

/// One side under test.
trait Side {
    fn name(&self) -> &'static str;
    fn start(&mut self, world: &World, log: &Path) -> Result<()>;
    fn pids(&self) -> Vec<u32>;
    /// Lines that it has read of its log.
    fn done(&self, log: &Path) -> bool;
    /// Addresses that are blocked now.
    fn blocked(&self) -> usize;
    fn stop(&mut self) -> Result<()>;
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
    println!("from the deciding line to the first refused packet, {} build", profile());
    measure(options, &mut Sakimori::default())?;
    if options.fail2ban {
        measure(options, &mut Fail2ban::default())?;
    }
    Ok(())
}

fn measure(options: &Options, side: &mut dyn Side) -> Result<()> {
    let mut lab = Lab::new("skmltb")?;
    for name in ["attacker", "host"] {
        lab.add(name)?;
    }
    lab.join(
        End { namespace: "attacker", device: "out", addresses: &["198.51.100.254/24"] },
        End { namespace: "host", device: "in", addresses: &["198.51.100.1/24"] },
    )?;
    let world = World { lab: Arc::new(lab), dir: tempfile::tempdir()? };
    let log = world.dir.path().join("auth.log");
    fs::write(&log, "")?;
    side.start(&world, &log)?;
    let outcome = (|| {
        let mut times = Vec::new();
        for burst in 0..options.bursts {
            times.push(one_burst(&world, &log, burst)?);
        }
        times.sort();
        let at =
            |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied().unwrap_or_default();
        println!(
            "  {}: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms of {}",
            side.name(),
            ms(at(50)),
            ms(at(99)),
            ms(at(100)),
            times.len()
        );
        throughput(options, side, &log)
    })();
    let stopped = side.stop();
    outcome.with_context(|| tail(&world.dir.path().join("side.log")))?;
    stopped
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn stamp() -> String {
    let out = Command::new("date").args(["-u", "+%b %e %H:%M:%S"]).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

fn failure(stamp: &str, address: &str, port: u64) -> String {
    format!("{stamp} web1 sshd[4711]: Failed password for root from {address} port {port} ssh2\n")
}

/// Four failures, a pause, then the deciding fifth, while datagrams flow; the last that arrived is the block.
fn one_burst(world: &World, log: &Path, burst: usize) -> Result<Duration> {
    let address = format!("198.51.100.{}", 2 + burst % 250);
    Command::new("ip")
        .args(["-n", &world.lab.full_name("attacker"), "address", "add", &format!("{address}/24"), "dev", "out"])
        .stderr(Stdio::null())
        .status()?;
    let source: IpAddr = address.parse()?;
    let host: SocketAddr = "198.51.100.1:9".parse()?;
    let receiver = world.lab.inside("host", || UdpSocket::bind(host))??;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let sender = world.lab.inside("attacker", || UdpSocket::bind(SocketAddr::new(source, 0)))??;
    let began = Instant::now();
    let last = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let result = std::thread::scope(|scope| -> Result<Duration> {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = sender.send_to(b"x", host);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; 16];
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut buffer).is_ok() {
                    last.store(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            }
        });
        let mut file = OpenOptions::new().append(true).open(log)?;
        let stamp = stamp();
        for port in 0..4 {
            file.write_all(failure(&stamp, &address, 40_000 + port).as_bytes())?;
        }
        std::thread::sleep(Duration::from_millis(300));
        let decided = began.elapsed();
        file.write_all(failure(&stamp, &address, 40_004).as_bytes())?;
        let seen = wait(&format!("{address} is refused"), PATIENCE, || {
            let last = Duration::from_micros(last.load(Ordering::Relaxed));
            began.elapsed().saturating_sub(last) > Duration::from_millis(100)
        });
        stop.store(true, Ordering::Relaxed);
        seen?;
        Ok(Duration::from_micros(last.load(Ordering::Relaxed)).saturating_sub(decided))
    });
    stop.store(true, Ordering::Relaxed);
    result
}

fn throughput(options: &Options, side: &mut dyn Side, log: &Path) -> Result<()> {
    let stamp = stamp();
    let mut text = String::new();
    for number in 0..options.lines {
        let own = number % options.addresses;
        text.push_str(&failure(
            &stamp,
            &format!("203.{}.{}.{}", 1 + own / 62_500, (own / 250) % 250, 1 + own % 250),
            1_024 + number % 60_000,
        ));
    }
    let before = cpu(&side.pids());
    let began = Instant::now();
    OpenOptions::new().append(true).open(log)?.write_all(text.as_bytes())?;
    wait("all lines are read", Duration::from_secs(900), || side.done(log))?;
    // What is read is worked off once the processes are at rest.
    let mut last = cpu(&side.pids());
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = cpu(&side.pids());
        if now - last < 0.05 {
            break;
        }
        last = now;
    }
    let spent = cpu(&side.pids()) - before;
    println!(
        "  {}: {} lines from {} addresses ({} blocked) in {:.1} s, {spent:.2} CPU s: {:.0} lines a CPU second; {} MiB resident",
        side.name(),
        options.lines,
        options.addresses,
        side.blocked(),
        began.elapsed().as_secs_f64(),
        options.lines as f64 / spent.max(0.01),
        memory(&side.pids()) / 1024
    );
    Ok(())
}

/// Processor seconds of these processes and of the programs that they ran (fail2ban's `nft`) so far.
fn cpu(pids: &[u32]) -> f64 {
    let ticks: i64 = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .filter_map(|stat| {
            // tpgid may be -1.
            let fields: Vec<i64> =
                stat.rsplit(')').next()?.split_whitespace().filter_map(|field| field.parse().ok()).collect();
            // After the name come state (no number), then ppid …; utime, stime, cutime and cstime begin at the 11th.
            Some(fields.get(10..14)?.iter().sum::<i64>())
        })
        .sum();
    ticks as f64 / 100.0
}

/// Resident memory of these processes, KiB.
fn memory(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}

fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    all
}

/// Our agent alone, without a manager.
#[derive(Default)]
struct Sakimori {
    process: Option<Process>,
    config: std::path::PathBuf,
}

impl Side for Sakimori {
    fn name(&self) -> &'static str {
        "sakimori-agent"
    }

    fn start(&mut self, world: &World, log: &Path) -> Result<()> {
        let dir = world.dir.path();
        self.config = dir.join("agent.toml");
        fs::write(
            &self.config,
            format!(
                "[agent]\nstate = \"{}\"\nhost_name = \"web1\"\n[block_address]\ntable = \"skm_ltb\"\n\
                 [policy.modules.block_address]\nmost_per_minute = 1000000\n\
                 [[policy.modules.log_inspection.sources]]\nname = \"auth\"\nsource = \"linux/auth\"\nfile = \"{}\"\nzone = \"UTC\"\n",
                dir.join("agent").display(),
                log.display()
            ),
        )?;
        let mut command = world.lab.command("host", binary("sakimori-agent")?)?;
        command.arg("--config").arg(&self.config).arg("run");
        self.process = Some(Process::start(command, &dir.join("side.log"))?);
        wait("the agent reads", PATIENCE, || self.status().is_some_and(|text| text.contains("\"reading\"")))?;
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        self.process.as_ref().map(|process| family(process.pid())).unwrap_or_default()
    }

    fn done(&self, log: &Path) -> bool {
        let lines = fs::read_to_string(log).map_or(0, |text| text.lines().count() as u64);
        let status: Option<serde_json::Value> = self.status().and_then(|text| serde_json::from_str(&text).ok());
        status.and_then(|status| status.pointer("/inputs/0/lines")?.as_u64()).is_some_and(|read| read >= lines)
    }

    fn blocked(&self) -> usize {
        let list = self.ask(&["actions", "list", "--json"]).unwrap_or_default();
        serde_json::from_str(&list).map_or(0, |list: Vec<serde_json::Value>| list.len())
    }

    fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop(),
            None => Ok(()),
        }
    }
}

impl Sakimori {
    fn status(&self) -> Option<String> {
        self.ask(&["status", "--json"])
    }

    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let out = Command::new(binary("sakimori-agent").ok()?)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .output()
            .ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

/// fail2ban with its own sshd filter and nftables action, five failures.
#[derive(Default)]
struct Fail2ban {
    process: Option<Process>,
    socket: std::path::PathBuf,
}

impl Side for Fail2ban {
    fn name(&self) -> &'static str {
        "fail2ban"
    }

    fn start(&mut self, world: &World, log: &Path) -> Result<()> {
        let dir = world.dir.path().join("f2b");
        let status = Command::new("cp").arg("-r").arg("/etc/fail2ban").arg(&dir).status()?;
        if !status.success() {
            bail!("fail2ban is not installed: apt-get install fail2ban");
        }
        let _ = fs::remove_dir_all(dir.join("jail.d"));
        // Bans of another run would be there from the start.
        fs::write(dir.join("fail2ban.local"), "[DEFAULT]\ndbfile = None\n")?;
        self.socket = dir.join("sock");
        fs::write(
            dir.join("jail.local"),
            format!(
                "[DEFAULT]\nbackend = auto\nbanaction = nftables-allports\nbantime = 3600\nfindtime = 120\nmaxretry = 5\n\
                 protocol = udp\nusedns = no\nignoreself = false\nlogtimezone = UTC\n[sshd]\nenabled = true\nlogpath = {}\n",
                log.display()
            ),
        )?;
        let mut command = world.lab.command("host", "fail2ban-server")?;
        command.env("TZ", "UTC").args(["-xf", "-c"]).arg(&dir).arg("-s").arg(&self.socket);
        command.arg("-p").arg(dir.join("pid")).args(["--logtarget"]).arg(dir.join("log")).arg("start");
        self.process = Some(Process::start(command, &world.dir.path().join("side.log"))?);
        wait("fail2ban answers", PATIENCE, || self.ask(&["status", "sshd"]).is_some())?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        self.process.as_ref().map(|process| family(process.pid())).unwrap_or_default()
    }

    fn done(&self, log: &Path) -> bool {
        let lines = fs::read_to_string(log).map_or(0, |text| text.lines().count() as u64);
        self.ask(&["status", "sshd"])
            .and_then(|text| {
                text.lines().find_map(|line| line.split("Total failed:").nth(1)?.trim().parse::<u64>().ok())
            })
            .is_some_and(|failed| failed >= lines)
    }

    fn blocked(&self) -> usize {
        let text = self.ask(&["status", "sshd"]).unwrap_or_default();
        let count = text.lines().find_map(|line| line.split("Currently banned:").nth(1)?.trim().parse().ok());
        count.unwrap_or(0)
    }

    fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop(),
            None => Ok(()),
        }
    }
}

impl Fail2ban {
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let out = Command::new("fail2ban-client").arg("-s").arg(&self.socket).args(arguments).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }
}
