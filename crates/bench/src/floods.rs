//! Floods through the network engine: what it keeps, what it says of it, and how fast it goes on.
//!
//! Each flood runs in a process of its own, so that the kernel's high-water mark of its memory is that flood's. Packets
//! are made one by one while they are judged; their making is measured apart and taken off.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use sakimori_network::{Engine, GENERATOR, LoadOptions, RuleSet, Settings, capture::Frame};

use crate::platform::profile;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many flows or names.
    #[arg(long, default_value_t = 1_000_000)]
    count: u32,
    /// Only this flood, in this process.
    #[arg(long)]
    only: Option<Flood>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What floods.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Flood {
    /// SYNs, each of another flow.
    HalfOpen,
    /// Questions to DNS, each for another name and of another flow.
    Names,
    /// The same from one port.
    NamesOfOneFlow,
    /// Requests with bodies that never end, each of another flow.
    Bodies,
    /// First fragments without a second.
    Fragments,
}

const RULES: &str = "\
alert dns any any -> any any (msg:\"names\"; dns.query; dataset:set,names,type string; threshold:type limit, track by_src, count 1, seconds 60; sid:1;)
alert http any any -> any any (msg:\"body\"; http.request_body; content:\"never there\"; sid:2;)
alert tcp any any -> any any (msg:\"scan\"; flags:S; threshold:type both, track by_src, count 100, seconds 60; sid:3;)
";

/// Runs it.
///
/// # Errors
/// A flood that is not told of.
pub fn run(options: &Options) -> Result<()> {
    if let Some(flood) = options.only {
        return one(flood, options);
    }
    if !options.json {
        println!("profile: {}", profile());
    }
    for flood in Flood::value_variants() {
        let name = flood.to_possible_value().context("a flood has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floods", "--only", name.get_name(), "--count", &options.count.to_string()]);
        if options.json {
            command.arg("--json");
        }
        if !command.status()?.success() {
            bail!("the flood {} is not as it should be", name.get_name());
        }
    }
    Ok(())
}

fn one(flood: Flood, options: &Options) -> Result<()> {
    let rules = RuleSet::load(&[("floods", RULES)], &LoadOptions::default(), &|_| None);
    let settings = Settings::inline();
    let limit = settings.flow.memory;
    let mut engine = Engine::new(settings, Arc::new(rules));
    let before = peak()?;
    let mut alerts = Vec::new();
    let (mut told, mut packets) = (0u64, 0u64);
    let mut packet = Vec::new();
    // Making them alone.
    let making = Instant::now();
    for number in 0..options.count {
        make(flood, number, &mut packet);
        std::hint::black_box(&packet);
    }
    let making = making.elapsed();
    let start = Instant::now();
    for number in 0..options.count {
        make(flood, number, &mut packet);
        packets += 1;
        // A hundred thousand packets a second.
        let time = 1_700_000_000_000_000 + i64::from(number) * 10;
        let frame = Frame { time, link: 101, data: &packet, cut: false, vouched: true };
        engine.frame(&frame, packets, &mut alerts);
        told += alerts.drain(..).filter(|alert| alert.rule.gid == GENERATOR).count() as u64;
    }
    let seconds = start.elapsed().saturating_sub(making).as_secs_f64().max(f64::EPSILON);
    let counters = engine.counters();
    let mib = peak()?.saturating_sub(before) / 1024;
    let rate = packets as f64 / seconds;
    let name = flood.to_possible_value().map(|name| name.get_name().to_owned()).unwrap_or_default();
    if options.json {
        let line = serde_json::json!({
            "flood": name, "packets": packets, "packets_per_second": rate.round(), "peak_mib": mib,
            "pushed_out": counters.flows_pushed_out, "events": told,
        });
        println!("{line}");
    } else {
        println!(
            "{name:<20}{packets} packets, {rate:.0} a second, {mib} MiB at the most (limit of flows: {} MiB), {} flows pushed out, {told} events",
            limit >> 20,
            counters.flows_pushed_out,
        );
    }
    if told == 0 && options.count >= 1_000_000 && !matches!(flood, Flood::NamesOfOneFlow) {
        bail!("the flood is no event");
    }
    Ok(())
}

/// Most memory of this process so far, in KiB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells no VmHWM")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("VmHWM is no number")
}

/// A packet of the flood, in raw IPv4 without checksums (a kernel vouches for it).
fn make(flood: Flood, number: u32, out: &mut Vec<u8>) {
    let source = 0x0a00_0000 | (number & 0x00ff_ffff);
    let name;
    let (proto, fragment, body): (u8, u16, Vec<u8>) = match flood {
        Flood::HalfOpen => (6, 0, tcp(80, 2, &[])),
        Flood::Bodies => {
            let mut request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".to_vec();
            request.resize(1_400, b'x');
            (6, 0, tcp(80, 24, &request))
        }
        Flood::Names | Flood::NamesOfOneFlow => {
            name = format!("\x0bn{number:010}\x07example\0");
            let question = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], name.as_bytes(), b"\0\x01\0\x01"].concat();
            let length = u16::try_from(8 + question.len()).unwrap_or(u16::MAX);
            (17, 0, [&[0x9c, 0x40, 0, 53][..], &length.to_be_bytes(), &[0, 0], &question].concat())
        }
        Flood::Fragments => (17, 0x2000, vec![b'x'; 1_400]),
    };
    let source = if matches!(flood, Flood::NamesOfOneFlow) { 0x0a00_0001 } else { source };
    out.clear();
    out.extend([0x45, 0]);
    out.extend(u16::try_from(20 + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend([0, 7]);
    out.extend(fragment.to_be_bytes());
    out.extend([64, proto, 0, 0]);
    out.extend(source.to_be_bytes());
    out.extend([192, 0, 2, 80]);
    out.extend(body);
}

fn tcp(port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = [40_000u16.to_be_bytes(), port.to_be_bytes()].concat();
    out.extend(1_000u32.to_be_bytes());
    out.extend(if flags & 16 != 0 { 5u32 } else { 0 }.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    out
}
