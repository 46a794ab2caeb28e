//! `sakimori-agent packets`: list, look at and copy out the packets of alerted flows that the policy has kept on this
//! host. Root alone can read them. What is in a file was written by an enemy perhaps, so it is looked at by a process
//! that has given up everything else.

pub mod store;

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sakimori_model::Timestamp;
use sakimori_network::capture::Capture;
use sakimori_sys::sandbox::{self, Sandbox};
use serde_json::json;

use crate::config::Config;
use crate::files::write_atomically;
use store::Store;

/// What looking at a file of at most 8 MiB takes.
const CONFINED: Sandbox = Sandbox { executable_memory: false, memory: 256 << 20, descriptors: 64 };

#[derive(Debug, Subcommand)]
pub enum PacketsCommand {
    /// List what there is, oldest first
    List,
    /// Show the packets of one file
    #[command(after_help = "Examples:\n  sakimori-agent packets show 1767225600123456-0-17-9100111\n  \
                            sakimori-agent packets export 1767225600123456-0-17-9100111 | tcpdump -nr - -X")]
    Show {
        /// Its name, as `list` and the alert's `sakimori.network.capture` have it
        name: String,
    },
    /// Copy one file out: pcap, as tcpdump and Wireshark read it
    Export {
        /// Its name
        name: String,
        /// Where to; standard output where it is not given
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Runs a command.
///
/// # Errors
/// No right, no such file, or something is in the way.
pub fn run(config: &Config, command: PacketsCommand, json: bool) -> Result<ExitCode> {
    let folder = config.packets();
    if !folder.is_dir() {
        match command {
            PacketsCommand::List => print_items(&[], json)?,
            PacketsCommand::Show { name } | PacketsCommand::Export { name, .. } => {
                bail!("there are no packets {name}; none were ever kept on this host")
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let store = Store::open(&folder)?;
    match command {
        PacketsCommand::List => print_items(store.items(), json)?,
        PacketsCommand::Show { name } => show(&store.read(&name)?, json)?,
        PacketsCommand::Export { name, to } => {
            let bytes = store.read(&name)?;
            match to {
                Some(path) if path.exists() => bail!("{} exists; name another file", path.display()),
                Some(path) => write_atomically(&std::path::absolute(path)?, &bytes, 0o600)?,
                None if std::io::stdout().is_terminal() => {
                    bail!("a capture is not for a terminal; give --to FILE, or pipe it: … | tcpdump -nr -")
                }
                None => std::io::stdout().write_all(&bytes).context("cannot write to standard output")?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_items(items: &[store::Item], json: bool) -> Result<()> {
    if json {
        let list: Vec<_> = items
            .iter()
            .map(|item| json!({"name": item.name, "time": item.time(), "rule": item.rule(), "bytes": item.size}))
            .collect();
        anstream::println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for item in items {
        anstream::println!("{}  {}  rule {}  {} bytes", item.name, item.time(), item.rule(), item.size);
    }
    anstream::println!("packets of {} flows", items.len());
    Ok(())
}

fn show(bytes: &[u8], json: bool) -> Result<()> {
    sandbox::enter(&CONFINED).context("cannot give up what looking at packets does not need")?;
    let mut capture = Capture::open(bytes).context("it is no capture")?;
    let mut list = Vec::new();
    while let Some(frame) = capture.next() {
        let frame = frame.context("the file is damaged")?;
        let time = Timestamp::from_micros(frame.time);
        let ends = ends(frame.data);
        if json {
            list.push(json!({"time": time, "what": ends, "cut": frame.cut, "bytes": hex::encode(frame.data)}));
            continue;
        }
        let cut = if frame.cut { ", cut" } else { "" };
        anstream::println!("{time}  {ends}  {} bytes{cut}", frame.data.len());
        for (at, line) in frame.data.chunks(16).enumerate() {
            anstream::println!("    {:04x}  {}", at * 16, dump(line));
        }
    }
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(&list)?);
    }
    Ok(())
}

/// Sixteen bytes as numbers and as letters.
fn dump(line: &[u8]) -> String {
    let numbers: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
    let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    format!("{:47}  {}", numbers.join(" "), line.iter().map(letter).collect::<String>())
}

/// From where to where, of a packet that begins with its IP header.
fn ends(data: &[u8]) -> String {
    let found = || -> Option<String> {
        let (src, dst, proto, header) = match data.first()? >> 4 {
            4 => {
                let address = |at: usize| Some(Ipv4Addr::from(*data.get(at..)?.first_chunk::<4>()?).to_string());
                (address(12)?, address(16)?, *data.get(9)?, usize::from(data.first()? & 0x0f) * 4)
            }
            6 => {
                let address = |at: usize| Some(format!("[{}]", Ipv6Addr::from(*data.get(at..)?.first_chunk::<16>()?)));
                (address(8)?, address(24)?, *data.get(6)?, 40)
            }
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes(*data.get(header + at..)?.first_chunk::<2>()?));
        let flags = data.get(header + 13).copied().unwrap_or(0);
        let flags: String =
            (0_u8..).zip("FSRPAU".chars()).filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, letter)| letter).collect();
        Some(match (proto, port(0), port(2)) {
            (6, Some(from), Some(to)) => format!("{src}:{from} → {dst}:{to}  tcp {flags}"),
            (17, Some(from), Some(to)) => format!("{src}:{from} → {dst}:{to}  udp"),
            _ => format!("{src} → {dst}  protocol {proto}"),
        })
    };
    found().unwrap_or_else(|| "no IP".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_where_to_where_whatever_the_bytes() {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 203, 0, 113, 9, 192, 0, 2, 80];
        packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ends(&packet), "203.0.113.9:40000 → 192.0.2.80:80  tcp PA");
        for length in 0..packet.len() {
            assert!(!ends(&packet[..length]).is_empty());
        }
        let mut six = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        six.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        six.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        six.extend([0, 53, 0, 53]);
        assert_eq!(ends(&six), "[2001:db8::1]:53 → [2001:db8::2]:53  udp");
        assert_eq!(dump(b"GET /\r\n"), format!("{:47}  GET /..", "47 45 54 20 2f 0d 0a"));
    }
}
