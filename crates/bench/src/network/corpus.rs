//! Captures of a folder merged into one and repeated: each round has other addresses and ports, so that its flows are
//! new ones, and comes after the former in time.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sakimori_network::capture::Capture;

use super::traffic::{HEAD, put};

/// Bytes of frames at which it ends.
const ENOUGH: u64 = 200_000_000;
/// Between two captures, in microseconds.
const PAUSE: i64 = 1_000_000;
/// Ethernet, as LINKTYPE and as long as its header is.
const ETHERNET: u32 = 1;
const HEADER: usize = 14;

/// Writes it; gives its bytes and packets.
pub(super) fn write(folder: &Path, to: &Path) -> Result<(u64, u64)> {
    let mut paths = Vec::new();
    find(folder, &mut paths)?;
    paths.sort();
    let mut frames: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut time = 0;
    for path in &paths {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(mut found) = Capture::open(file) else { continue };
        let mut first = None;
        let mut last = time;
        while let Some(Ok(frame)) = found.next() {
            if frame.link != ETHERNET || frame.cut {
                continue;
            }
            let at = time + (frame.time - *first.get_or_insert(frame.time)).clamp(0, 60_000_000);
            last = last.max(at);
            frames.push((at, frame.data.to_vec()));
        }
        time = last + PAUSE;
    }
    if frames.is_empty() {
        bail!("{} holds no capture of Ethernet frames", folder.display());
    }
    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(HEAD)?;
    let (mut bytes, mut packets, mut round) = (0, 0, 0_u16);
    while bytes < ENOUGH {
        let start = 1_700_000_000_000_000 + i64::from(round) * time;
        for (at, frame) in &mut frames {
            rewrite(frame, u8::from(round > 0));
            put(&mut out, start + *at, frame)?;
            bytes += frame.len() as u64;
            packets += 1;
        }
        round = round.checked_add(1).context("the captures hold too little")?;
    }
    out.flush()?;
    Ok((bytes, packets))
}

fn find(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, out)?;
        } else if path.extension().is_some_and(|ending| ending == "pcap" || ending == "pcapng" || ending == "cap") {
            out.push(path);
        }
    }
    Ok(())
}

/// Moves both addresses of an IPv4 frame, and the higher port of TCP and UDP, by a step; sums are kept right, and wrong
/// ones wrong, since what is added to a word is taken off the sum (RFC 1624).
fn rewrite(frame: &mut [u8], step: u8) {
    let ip = frame.get(12..14) == Some(&[8, 0]);
    if !ip || step == 0 {
        return;
    }
    let Some(packet) = frame.get_mut(HEADER..) else { return };
    let Some(first) = packet.first() else { return };
    let head = usize::from(first & 15) * 4;
    let (proto, whole) = match packet.get(6..10) {
        Some([high, low, _, proto]) => (*proto, u16::from_be_bytes([*high, *low]) & 0x3fff == 0),
        _ => return,
    };
    let sum_at = match proto {
        6 => Some(head + 16),
        17 => Some(head + 6),
        _ => None,
    };
    for place in [12, 16] {
        let moved = |word: u16| (word & 0xff00) | u16::from((word as u8).wrapping_add(step));
        let Some((old, new)) = change(packet, place, moved) else { return };
        adjust(packet, 10, old, new);
        if let Some(at) = sum_at.filter(|_| whole) {
            adjust(packet, at, old, new);
        }
    }
    let Some(at) = sum_at.filter(|_| whole) else { return };
    let port =
        |place: usize| packet.get(place..place + 2).and_then(|two| Some(u16::from_be_bytes(two.try_into().ok()?)));
    let (Some(source), Some(target)) = (port(head), port(head + 2)) else { return };
    let place = if source >= target { head } else { head + 2 };
    if source.max(target) < 32_768 {
        return;
    }
    let moved = |port: u16| 0x8000 | (port.wrapping_add(101) & 0x7fff);
    if let Some((old, new)) = change(packet, place, moved) {
        adjust(packet, at, old, new);
    }
}

fn change(packet: &mut [u8], place: usize, with: impl Fn(u16) -> u16) -> Option<(u16, u16)> {
    let two = packet.get_mut(place..place + 2)?;
    let old = u16::from_be_bytes([*two.first()?, *two.last()?]);
    let new = with(old);
    two.copy_from_slice(&new.to_be_bytes());
    Some((old, new))
}

fn adjust(packet: &mut [u8], place: usize, old: u16, new: u16) {
    let Some(two) = packet.get_mut(place..place + 2) else { return };
    let Ok(bytes) = <[u8; 2]>::try_from(&*two) else { return };
    let sum = u16::from_be_bytes(bytes);
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    two.copy_from_slice(&(!(total as u16)).to_be_bytes());
}
