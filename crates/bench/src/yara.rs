//! YARA rules over a copy of a folder: `sakimori scan` beside `yr` (yara-x-cli) and `yara`, with the same rules, which
//! are made. Each tool finds the same files, or the measurement says so and fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::platform::{binary, profile};
use crate::usage::{Usage, median, run as measured};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "`yr`: cargo install yara-x-cli; `yara`: apt-get install yara. What is not there is not measured."
)]
pub struct Options {
    /// Folder whose copy is scanned
    #[arg(long, default_value = "/usr")]
    folder: PathBuf,
    /// Mebibytes of it that are copied, in the order of the names
    #[arg(long, default_value_t = 6_000)]
    mebibytes: u64,
    /// Rules that are made
    #[arg(long, default_value_t = 2_000)]
    rules: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Threads or workers of each
    #[arg(long, default_value_t = 2)]
    jobs: u8,
    /// The program `yr`, where it is not in the path
    #[arg(long, default_value = "yr")]
    yr: PathBuf,
}

/// Files with something to be found that are put into the copy.
const PLANTED: usize = 20;

/// Runs it.
///
/// # Errors
/// No room for the copy, or tools that find different files.
pub fn run(options: &Options) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sakimori-yara-").tempdir()?;
    let (rules, copy) = (dir.path().join("made.yar"), dir.path().join("copy"));
    fs::write(&rules, made(options.rules))?;
    fs::create_dir_all(copy.join("below"))?;
    let mut left = options.mebibytes << 20;
    let files = copied(&options.folder, &copy, &mut left)?;
    for number in 0..PLANTED {
        // Every other one below, so that a tool that stays in the first folder is found out.
        let name = if number % 2 == 0 { format!("planted{number}") } else { format!("below/planted{number}") };
        fs::write(copy.join(&name), format!("some text\n{}\nmore text\n", planted(number * options.rules / PLANTED)))?;
    }
    let mebibytes = ((options.mebibytes << 20) - left) as f64 / f64::from(1 << 20);
    println!(
        "{files} files, {mebibytes:.0} MiB of {}, {} rules, {} build; medians of {} rounds, compiling the rules included",
        options.folder.display(),
        options.rules,
        profile(),
        options.rounds
    );
    println!("{:10} {:>9} {:>8} {:>10} {:>10} {:>7}", "", "MB/CPU s", "seconds", "peak MiB", "anonymous", "found");
    let jobs = options.jobs.to_string();
    let mut sides = vec![("sakimori", binary("sakimori")?)];
    for (name, program) in [("yr", options.yr.as_path()), ("yara", Path::new("yara"))] {
        match Command::new(program).arg("--version").output() {
            Ok(_) => sides.push((name, program.to_owned())),
            Err(_) => println!("{name} is not installed: not measured"),
        }
    }
    let mut all: Vec<Vec<(BTreeSet<String>, Usage, f64)>> = vec![Vec::new(); sides.len()];
    for _ in 0..options.rounds {
        for ((name, program), results) in sides.iter().zip(&mut all) {
            let mut command = Command::new(program);
            match *name {
                "sakimori" => command.args(["scan", "--quiet", "--jobs", &jobs, "--only-rules"]).arg(&rules).arg(&copy),
                "yr" => command
                    .args(["scan", "--recursive", "--disable-warnings", "--threads", &jobs])
                    .arg(&rules)
                    .arg(&copy),
                _ => command.args(["-r", "-w", "-p", &jobs]).arg(&rules).arg(&copy),
            };
            // 1: something was found.
            let (out, usage, wall) = measured(&mut command, &[0, 1])?;
            results.push((found(&String::from_utf8_lossy(&out)), usage, wall.as_secs_f64()));
        }
    }
    for ((name, _), results) in sides.iter().zip(&all) {
        let of = |value: &dyn Fn(&(BTreeSet<String>, Usage, f64)) -> f64| median(results.iter().map(value).collect());
        println!(
            "{name:10} {:9.0} {:8.2} {:10.0} {:10.0} {:7}",
            mebibytes * 1.048_576 / of(&|one| one.1.seconds),
            of(&|one| one.2),
            of(&|one| one.1.shared_out as f64 / 1_048_576.0),
            of(&|one| one.1.anonymous as f64 / 1_048_576.0),
            results.first().map_or(0, |one| one.0.len())
        );
    }
    let mut finds = all.iter().filter_map(|results| results.first()).map(|one| &one.0);
    let first = finds.next().context("a tool was measured")?;
    ensure!(first.len() >= PLANTED, "only {} of {PLANTED} planted files were found", first.len());
    ensure!(finds.all(|other| other == first), "the tools found different files");
    Ok(())
}

/// Names of found files: every word that is a path, without its folder, from any of the three formats.
fn found(out: &str) -> BTreeSet<String> {
    let words = out.lines().flat_map(|line| line.split(' ').find(|word| word.starts_with('/')));
    words.map(|word| word.trim_end_matches(':').rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

/// Copies regular files into one tree, until so many bytes are used up.
fn copied(from: &Path, to: &Path, left: &mut u64) -> Result<usize> {
    let mut files = 0;
    let mut entries: Vec<_> = fs::read_dir(from).with_context(|| from.display().to_string())?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() && *left > 0 {
            fs::create_dir(&target)?;
            files += copied(&entry.path(), &target, left)?;
        } else if kind.is_file() {
            let size = entry.metadata()?.len();
            if size <= *left && fs::copy(entry.path(), &target).is_ok() {
                *left -= size;
                files += 1;
            }
        }
    }
    Ok(files)
}

/// What the rule of this number looks for.
fn planted(number: usize) -> String {
    let mut random = StdRng::seed_from_u64(number as u64);
    (0..14).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}

/// Rules of the kinds that public sets are made of: texts, hexadecimal patterns with gaps, expressions, with conditions
/// over their number and the file's beginning. The same number gives the same rules.
pub fn made(count: usize) -> String {
    let mut out = String::new();
    let mut random = StdRng::seed_from_u64(11);
    for number in 0..count {
        let word = planted(number);
        let bytes: Vec<String> = (0..12).map(|_| format!("{:02x}", random.random::<u8>())).collect();
        let (head, rest) = bytes.split_at(6);
        let other: String = (0..10).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
        let (strings, condition) = match number % 5 {
            0 => (format!("$a = \"{word}\" $b = \"{other}\" wide ascii"), "any of them".to_owned()),
            1 => (
                format!("$a = \"{word}\" nocase $b = {{ {} [2-6] {} }}", head.join(" "), rest.join(" ")),
                "any of them".into(),
            ),
            2 => (format!("$a = \"{word}\" $b = /{other}[0-9a-f]{{4,12}}/"), "$a or #b > 2".to_owned()),
            3 => (
                format!("$a = \"{word}\" fullword $b = {{ {} }}", bytes.join(" ")),
                "$a or (uint16(0) == 0x5a4d and $b)".into(),
            ),
            _ => (format!("$a = \"{word}\" $b = \"{other}\" xor"), "$a or ($b and filesize < 100KB)".to_owned()),
        };
        let _ = writeln!(out, "rule made_{number} {{ strings: {strings} condition: {condition} }}");
    }
    out
}
