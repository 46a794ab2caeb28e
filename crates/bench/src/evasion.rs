//! Attacks in disguise, trick by trick: seen here, seen by Suricata.
//!
//! The tricks are those of the network engine's own test, which plays them one by one. Here all of them are one
//! capture, each with a client of its own and a rule for that client, so that one run of Suricata tells about all.
//! Both sides look twice: as they watch, and as they stand between (Suricata: `--simulate-ips`), each with its own
//! defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sakimori_network::Settings;
use tricks::Found;

#[allow(clippy::indexing_slicing, clippy::missing_docs_in_private_items, reason = "shared with a test of the engine")]
#[path = "../../network/tests/tricks/mod.rs"]
mod tricks;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// For a guide: a table of those that not both see, and a list of those that both do.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Leave the capture and its rules in this folder.
    #[arg(long)]
    keep: Option<std::path::PathBuf>,
}

/// Signatures that were seen: while watching, and between.
type Seen = [BTreeSet<u64>; 2];

/// Runs it.
///
/// # Errors
/// A rule that one of the two does not take, and something that Suricata sees and we do not.
pub fn run(options: &Options) -> Result<()> {
    let tricks = tricks::all();
    let mut frames = Vec::new();
    let mut rules = String::new();
    for (number, trick) in tricks.iter().enumerate() {
        frames.extend(tricks::frames(number, trick));
        let _ = writeln!(rules, "{}", tricks::rule(number, trick));
    }
    let folder = tempfile::tempdir()?;
    let place = options.keep.as_deref().unwrap_or(folder.path());
    std::fs::create_dir_all(place)?;
    std::fs::write(place.join("tricks.pcap"), pcap(&frames))?;
    std::fs::write(place.join("tricks.rules"), &rules)?;
    let theirs = theirs(place)?;
    if theirs.is_none() {
        eprintln!("suricata is not installed: not asked (Debian: apt-get install -t bookworm-backports suricata)");
    }
    let (mut missed, mut ours) = (0, [0; 2]);
    let mut both: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    if options.markdown {
        println!("| area | trick | Sakimori | Suricata 7 |\n|---|---|---|---|");
    } else if !options.json {
        println!("{:<8}{:<76}{:<20}Suricata 7", "area", "trick", "Sakimori");
    }
    for (number, trick) in tricks.iter().enumerate() {
        let sid = number as u64 + 1;
        let play = |settings| tricks::found(number, trick, settings).map_err(anyhow::Error::msg);
        let found = [play(Settings::default())?, play(Settings::inline())?];
        let us = word(found);
        let their = theirs
            .as_ref()
            .map(|seen| seen.each_ref().map(|seen| if seen.contains(&sid) { Found::Seen } else { Found::Hidden }));
        let them = their.map(word);
        for ((count, found), their) in ours.iter_mut().zip(found).zip(their.unwrap_or([Found::Hidden; 2])) {
            *count += usize::from(found != Found::Hidden);
            missed += usize::from(found == Found::Hidden && their == Found::Seen);
        }
        if options.json {
            let line = serde_json::json!({"area": trick.area, "trick": trick.name, "sakimori": us, "suricata": them});
            println!("{line}");
        } else if options.markdown && (us, them) == ("seen", Some("seen")) {
            both.entry(trick.area).or_default().push(trick.name);
        } else if options.markdown {
            println!("| {} | {} | {us} | {} |", trick.area, trick.name, them.unwrap_or("not asked"));
        } else {
            println!("{:<8}{:<76}{us:<20}{}", trick.area, trick.name, them.unwrap_or("not asked"));
        }
    }
    if !both.is_empty() {
        println!("\nSeen by both, watching and between:\n");
        both.iter().for_each(|(area, names)| println!("- {area}: {}.", names.join("; ")));
    }
    if !options.json {
        println!();
        println!("Sakimori sees {}", share(ours, tricks.len()));
        if let Some(theirs) = &theirs {
            println!("Suricata sees {}", share(theirs.each_ref().map(BTreeSet::len), tricks.len()));
        }
    }
    if missed > 0 {
        bail!("Suricata sees {missed} that we do not");
    }
    Ok(())
}

/// Watching, and between.
fn word(found: [Found; 2]) -> &'static str {
    match found {
        [Found::Seen, Found::Seen] => "seen",
        [Found::Seen, Found::Refused] => "seen; refused",
        [Found::Seen, Found::Hidden] => "only watching",
        [Found::Hidden | Found::Refused, Found::Seen] => "only between",
        [Found::Hidden | Found::Refused, Found::Refused] => "refused",
        [Found::Hidden | Found::Refused, Found::Hidden] => "not seen",
    }
}

fn share([watching, between]: [usize; 2], of: usize) -> String {
    format!("{watching} of {of} as it watches, {between} as it stands between")
}

fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    for (number, frame) in (1..).zip(frames) {
        let time = tricks::time(number);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        for part in [time / 1_000_000, time % 1_000_000, length.into(), length.into()] {
            out.extend(u32::try_from(part).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend(frame);
    }
    out
}

/// What Suricata sees; `None` where it is not installed.
fn theirs(place: &Path) -> Result<Option<Seen>> {
    if !Command::new("suricata").arg("-V").output().is_ok_and(|out| out.status.success()) {
        return Ok(None);
    }
    let mut seen = Seen::default();
    for (seen, between) in seen.iter_mut().zip([false, true]) {
        let logs = place.join(if between { "between" } else { "watching" });
        std::fs::create_dir_all(&logs)?;
        let eve = logs.join("eve.json");
        let _ = std::fs::remove_file(&eve);
        let mut command = Command::new("suricata");
        command.arg("-r").arg(place.join("tricks.pcap")).arg("-S").arg(place.join("tricks.rules"));
        command.arg("-l").arg(&logs).args(["--runmode", "single", "-c", "/etc/suricata/suricata.yaml"]);
        command.args(["--set", "app-layer.protocols.http2.enabled=yes"]);
        if between {
            command.arg("--simulate-ips");
        }
        let out = command.output().context("cannot run suricata")?;
        let text = String::from_utf8_lossy(&out.stderr);
        if !out.status.success() || text.contains("error parsing signature") {
            bail!("suricata does not take it: {text}");
        }
        for line in std::fs::read_to_string(&eve).context("suricata wrote no eve.json")?.lines() {
            let event: serde_json::Value = serde_json::from_str(line)?;
            seen.extend(event.pointer("/alert/signature_id").and_then(serde_json::Value::as_u64));
        }
    }
    Ok(Some(seen))
}
