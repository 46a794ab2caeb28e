//! `net replay --keep-packets`: the packets of alerted flows as files.
//!
//! Whoever reads a capture has given up files by then, so another process writes: it is begun before, gets file after file
//! through a pipe, and believes names and sizes as little as the agent believes its workers. It says at the end what it
//! did.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use sakimori_model::Event;
use sakimori_model::policy::KeepPackets;
use sakimori_network::capture::Frame;
use sakimori_network::keep::{KeepLimits, Kept, Recorder};
use sakimori_network::{Alert, Engine};
use serde_json::json;

/// Longest name.
const MOST_NAME: u64 = 100;

fn limits() -> KeepLimits {
    let usual = KeepPackets::default();
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    KeepLimits {
        snap: size(usual.snap_bytes),
        ring: size(usual.ring_kib) << 10,
        packets: size(usual.packets),
        bytes: size(usual.file_kib) << 10,
        after: i64::from(usual.after_seconds) * 1_000_000,
        files_per_hour: usual.files_per_hour,
    }
}

/// Keeps packets while a capture is read.
pub struct Keeping {
    recorder: Recorder,
    writer: Child,
    to: ChildStdin,
}

impl Keeping {
    /// Starts who writes. Call it before anything is given up.
    pub fn begin(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut writer = Command::new(own)
            .args(["net", "keep-writer"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the writer of packets")?;
        let to = writer.stdin.take().context("the writer has a pipe")?;
        Ok(Self { recorder: Recorder::new(limits(), "replay"), writer, to })
    }

    /// A packet that the engine has judged.
    pub fn packet(&mut self, frame: &Frame<'_>, engine: &Engine) -> Result<()> {
        // What was cut off a frame, and how much, the capture alone knows.
        let whole = frame.data.len() + usize::from(frame.cut);
        self.recorder.packet(frame, whole, engine.last_flow());
        while let Some(kept) = self.recorder.take(frame.time) {
            self.send(&kept)?;
        }
        Ok(())
    }

    /// An alert; its event says where the packets will be.
    pub fn alert(&mut self, alert: &Alert, event: &mut Event) {
        let name = alert.flow.and_then(|flow| self.recorder.keep(alert.rule.sid, flow, alert.time));
        if let Some(name) = name {
            event.set_path("sakimori.network.capture", json!(name));
        }
    }

    /// Writes the rest; gives what was written in words.
    pub fn end(mut self) -> Result<String> {
        for kept in self.recorder.finish() {
            self.send(&kept)?;
        }
        drop(self.to);
        // Its words and their end: this process may not wait for another any more.
        let mut words = String::new();
        let mut from = self.writer.stdout.take().context("the writer has a pipe")?;
        from.read_to_string(&mut words).context("cannot hear the writer of packets")?;
        if words.is_empty() {
            bail!("the packets were not all written");
        }
        Ok(format!("{}, of {} not kept", words.trim(), self.recorder.shed))
    }

    fn send(&mut self, kept: &Kept) -> Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        for part in [kept.name.as_bytes(), &kept.bytes] {
            self.to
                .write_all(&length(part))
                .and_then(|()| self.to.write_all(part))
                .context("the writer of packets ended")?;
        }
        Ok(())
    }
}

/// The process that writes.
pub fn write(folder: &Path) -> Result<ExitCode> {
    let usual = KeepPackets::default();
    let (most_file, most_all) = (u64::from(usual.file_kib) << 10, u64::from(usual.total_mib) << 20);
    let mut from = std::io::stdin().lock();
    let (mut count, mut total, mut left_out) = (0_u64, 0_u64, 0_u64);
    while let Some(name) = part(&mut from, MOST_NAME)? {
        let bytes = part(&mut from, most_file)?.context("a file is cut off")?;
        let name = String::from_utf8(name).ok().filter(|name| is_plain(name)).context("a name is none")?;
        if total + bytes.len() as u64 > most_all {
            left_out += 1;
            continue;
        }
        let path = folder.join(format!("{name}.pcap"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&bytes)).with_context(|| format!("cannot write {}", path.display()))?;
        (count, total) = (count + 1, total + bytes.len() as u64);
    }
    let more = if left_out > 0 { format!(" ({left_out} more were too much in all)") } else { String::new() };
    println!("packets of {count} flows in {}{more}", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A part of at most so many bytes; nothing at the end.
fn part(from: &mut impl Read, most: u64) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read.context("cannot read what is to be written")?,
    }
    let length = u64::from(u32::from_le_bytes(length));
    if length > most {
        bail!("a part of {length} bytes is too long");
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes).context("cannot read what is to be written")?;
    Ok((bytes.len() as u64 == length).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_takes_whole_parts_of_plain_names_only() {
        let mut from: &[u8] = b"\x03\0\0\0abc\x04\0\0\0ab";
        assert_eq!(part(&mut from, 3).unwrap(), Some(b"abc".to_vec()));
        assert_eq!(part(&mut from, 4).unwrap(), None, "cut off");
        assert!(part(&mut &b"\xff\xff\xff\xff"[..], 4).is_err());
        assert!(is_plain("0000000000000001-replay-1-9") && !is_plain("../x") && !is_plain(""));
    }
}
