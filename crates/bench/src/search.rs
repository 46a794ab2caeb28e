//! `search`: how long the searches of the console take on a seeded lake, and how long DuckDB takes for the same questions
//! over the same Parquet files, on as many threads. Medians of some rounds; what each found is compared too.
//!
//! The lake is opened as the manager opens it, without a manager: what is measured is the engine. DuckDB reads the files
//! that the table's newest version names, told as a list.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_manager::config::Config;
use sakimori_model::Timestamp;
use sakimori_store::lake::{Ask, Interval, Lake, Order, width_for};
use sakimori_store::query::{Expr, FieldRef, parse};
use serde_json::{Value, json};

use crate::platform::profile;
use crate::seed::events::{NEEDLE_ADDRESS, NEEDLE_USER};

/// What DuckDB is asked, by a Python program.
const BESIDE: &str = include_str!("search_duckdb.py");
/// Rows of a page.
const PAGE: usize = 100;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// State folder that `seed-lake` filled.
    #[arg(long)]
    dir: PathBuf,
    /// Whose events.
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Python with the package `duckdb`; without it nothing is measured beside.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Only questions whose name begins with this, as `needle`.
    #[arg(long, default_value = "")]
    only: String,
}

/// What one question took, and what was found.
#[derive(Clone, Copy, Debug)]
struct Took {
    median: Duration,
    found: u64,
}

/// Measures.
///
/// # Errors
/// A folder without a lake, or answers that differ.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = Config { state_dir: options.dir.clone(), ..Config::default() };
    let (ours, span, files) = runtime.block_on(async {
        let lake = Lake::open(config.lake_options()).await?;
        let extent = lake.extent(&options.tenant).await?;
        let (Some(first), Some(last)) = (extent.first, extent.last) else {
            bail!("{} has no events of {}; fill it with seed-lake", options.dir.display(), options.tenant);
        };
        println!("{} events, {} build, {} rounds", extent.events, profile(), options.rounds);
        let span = (first, last.plus_micros(1));
        anyhow::Ok((questions(&lake, options, span).await?, span, lake.files(&options.tenant).await?))
    })?;
    let theirs = match &options.python {
        Some(python) => beside(python, options, span, &files)?,
        None => BTreeMap::new(),
    };
    print(&ours, &theirs)
}

async fn questions(
    lake: &Lake,
    options: &Options,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<(&'static str, Took)>> {
    let (tenant, rounds, all) = (options.tenant.as_str(), options.rounds, Interval::default());
    let page = |text: &str| -> Result<Expr> { Ok(parse(text)?) };
    let first = |query: Expr| async move {
        let ask = Ask { query: &query, interval: all, limit: PAGE, cursor: None, order: Order::Newest, fields: None };
        Ok(lake.page(tenant, ask).await?.hits.len() as u64)
    };
    let is_asked = |name: &str| name.starts_with(&options.only);
    let mut out = Vec::new();
    for (name, text) in [
        ("first rows of all", "*".to_owned()),
        ("first rows of failures", "event.outcome:failure".to_owned()),
        ("first rows of alerts", "event.kind:alert".to_owned()),
        ("needle: user", format!("user.name:{NEEDLE_USER}")),
        ("needle: address", format!("source.ip:{NEEDLE_ADDRESS}")),
        ("needle: network", "source.ip:198.19.255.0/24".to_owned()),
        ("needle: text", "\"quillon-7f3\"".to_owned()),
    ] {
        if is_asked(name) {
            let query = page(&text)?;
            out.push((name, took(rounds, || first(query.clone())).await?));
        }
    }
    let width = width_for(from, to, 60);
    let counted = || async {
        let by = FieldRef::path("event.outcome");
        Ok(lake.histogram(tenant, &Expr::All, (from, to), width, Some(&by)).await?.total)
    };
    if is_asked("counts over time by outcome") {
        out.push(("counts over time by outcome", took(rounds, counted).await?));
    }
    let top = |sample: Option<u64>| async move {
        let field = FieldRef::path("source.ip");
        let found = lake.values(tenant, &Expr::All, all, &field, ("", 20, sample)).await?;
        Ok(found.items.iter().map(|(_, count)| count).sum::<u64>())
    };
    for (name, sample) in [("top addresses of all", None), ("top addresses, newest 500,000", Some(500_000))] {
        if is_asked(name) {
            out.push((name, took(rounds, || top(sample)).await?));
        }
    }
    let bounded = || async {
        let query = parse("event.outcome:failure")?;
        Ok(lake.count_up_to(tenant, &query, all, 10_000).await?.0)
    };
    if is_asked("number up to 10,000") {
        out.push(("number up to 10,000", took(rounds, bounded).await?));
    }
    if out.is_empty() {
        bail!("no question's name begins with {:?}; without --only all are asked and listed", options.only);
    }
    Ok(out)
}

async fn took<F: Future<Output = Result<u64>>>(rounds: usize, ask: impl Fn() -> F) -> Result<Took> {
    let (mut times, mut found) = (Vec::new(), 0);
    for _ in 0..rounds.max(1) {
        let began = Instant::now();
        found = ask().await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(Took { median, found })
}

fn beside(
    python: &Path,
    options: &Options,
    (from, to): (Timestamp, Timestamp),
    files: &[PathBuf],
) -> Result<BTreeMap<String, Took>> {
    let dir = tempfile::tempdir()?;
    let (program, asked) = (dir.path().join("beside.py"), dir.path().join("asked.json"));
    std::fs::write(&program, BESIDE)?;
    let question = json!({
        "files": files, "tenant": options.tenant, "rounds": options.rounds, "threads": 2, "page": PAGE,
        "user": NEEDLE_USER, "address": NEEDLE_ADDRESS, "from": from.to_string(), "to": to.to_string(),
        "width": width_for(from, to, 60),
    });
    std::fs::write(&asked, question.to_string())?;
    let done = Command::new(python).arg(&program).arg(&asked).output().context("start Python")?;
    if !done.status.success() {
        bail!("DuckDB: {}", String::from_utf8_lossy(&done.stderr));
    }
    let answer: BTreeMap<String, Value> = serde_json::from_slice(&done.stdout)?;
    let of = |value: &Value| Took {
        median: Duration::from_secs_f64(value.get("seconds").and_then(Value::as_f64).unwrap_or(0.0)),
        found: value.get("found").and_then(Value::as_u64).unwrap_or(0),
    };
    Ok(answer.iter().map(|(name, value)| (name.clone(), of(value))).collect())
}

fn print(ours: &[(&'static str, Took)], theirs: &BTreeMap<String, Took>) -> Result<()> {
    println!("{:<34}{:>12}{:>12}{:>9}{:>12}", "", "sakimori ms", "duckdb ms", "ratio", "found");
    let mut differ = Vec::new();
    for (name, own) in ours {
        let ms = |took: &Took| took.median.as_secs_f64() * 1_000.0;
        let (beside, ratio) = match theirs.get(*name) {
            Some(other) => {
                if other.found != own.found {
                    differ.push(format!("{name}: {} and {}", own.found, other.found));
                }
                (format!("{:.1}", ms(other)), format!("{:.2}", ms(own) / ms(other).max(0.001)))
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!("{name:<34}{:>12.1}{beside:>12}{ratio:>9}{:>12}", ms(own), own.found);
    }
    if !differ.is_empty() {
        bail!("what was found differs: {}", differ.join("; "));
    }
    Ok(())
}
