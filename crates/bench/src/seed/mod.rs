//! `seed-lake`: a lake of made-up events in a manager's state folder, for measurements of search and for tests of the
//! console. The folder is one that no manager has written events into yet; the books of the control database say what
//! was put there, so that a manager that starts on it finds them balanced and numbers what comes after.

pub mod events;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sakimori_manager::WRITER;
use sakimori_manager::config::Config;
use sakimori_model::Timestamp;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_store::control::Control;
use sakimori_store::control::flushes::{self, Flush, Stream};
use sakimori_store::control::tenants::{self, Tenant};
use sakimori_store::lake::{Lake, StampedBatch};
use sakimori_wire::batch::BatchHeader;

use self::events::{Maker, agent, hosts};

/// Events of a batch.
const BATCH: u64 = 2_000;
/// Events of a flush: about what compaction makes of a day's files.
const FLUSH: u64 = 250_000;
/// The stream that the books show.
const STREAM: &str = "seed";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many events.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// State folder of the manager.
    #[arg(long)]
    dir: PathBuf,
    /// Whose events.
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Over how many days up to the end they are spread.
    #[arg(long, default_value_t = 7)]
    days: i64,
    /// Time of the last event, RFC 3339; now where absent.
    #[arg(long)]
    end: Option<String>,
    /// The same seed, end and number give the same events.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Makes the lake.
///
/// # Errors
/// A folder that is used already, or a disk that is full.
pub fn run(options: &Options) -> Result<()> {
    if options.events == 0 || options.days < 1 {
        bail!("at least one event and one day");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(seed(options))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
async fn seed(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.dir)?;
    let config = Config { state_dir: options.dir.clone(), ..Config::default() };
    let lake = Lake::open(config.lake_options()).await?;
    if lake.committed_flush().await? > 0 {
        bail!("{} has a lake already; seed an empty folder", options.dir.display());
    }
    let control = Control::open(&format!("sqlite:{}", options.dir.join("control.db").display())).await?;
    let end = match &options.end {
        Some(text) => Timestamp::parse(text).context("--end is no time such as 2026-01-02T03:04:05Z")?,
        None => SystemClock.now(),
    };
    let began = Instant::now();
    let written = fill(&lake, options, end).await?;
    books(&control, options, &lake, written, end).await?;
    control.close().await;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{written} events of {} days in {took:.1} s: {:.0} a second",
        options.days,
        written as f64 / took.max(0.001)
    );
    Ok(())
}

async fn fill(lake: &Lake, options: &Options, end: Timestamp) -> Result<u64> {
    let mut maker = Maker::new(options.seed);
    let span = options.days * 86_400 * 1_000_000;
    let start = end.plus_micros(-span);
    let at = |number: u64| {
        let share = i128::from(span) * i128::from(number) / i128::from(options.events);
        start.plus_micros(i64::try_from(share).unwrap_or(0))
    };
    let (mut number, mut turn) = (0, 0_u64);
    while number < options.events {
        let count = BATCH.min(options.events - number);
        let host = usize::try_from(turn).unwrap_or(0) % hosts();
        // Each host has its own numbers, from 1.
        let sequence = turn / hosts() as u64 + 1;
        let origin = agent(host);
        let header = BatchHeader {
            id: sakimori_model::id::batch_id(&origin, STREAM, sequence),
            origin,
            stream: STREAM.into(),
            sequence,
            count: u32::try_from(count)?,
            ..BatchHeader::default()
        };
        let events = (number..number + count).map(|one| maker.event(host, at(one))).collect();
        let arrival = at(number + count).plus_secs(1);
        let batch = StampedBatch { tenant: options.tenant.clone(), header, events, arrival, first_sequence: number };
        lake.ingest(Arc::new(batch))?;
        number += count;
        turn += 1;
        if number % FLUSH < BATCH || number == options.events {
            lake.flush().await?;
        }
    }
    Ok(number)
}

/// What a manager that starts here has to know.
async fn books(control: &Control, options: &Options, lake: &Lake, written: u64, end: Timestamp) -> Result<()> {
    let mut change = control.begin().await?;
    if tenants::get(control.read(), &options.tenant).await?.is_none() {
        let tenant = Tenant { id: options.tenant.clone(), name: options.tenant.clone(), created: end };
        tenants::create(change.connection(), &tenant).await?;
    }
    let batches = written.div_ceil(BATCH);
    let each = hosts() as u64;
    for host in 0..each.min(batches) {
        let of_host = (batches - host).div_ceil(each);
        // The last batch may be a short one.
        let short = (batches - 1) % each == host;
        let events = of_host * BATCH - if short { batches * BATCH - written } else { 0 };
        let stream = Stream {
            tenant: options.tenant.clone(),
            origin: agent(usize::try_from(host)?),
            stream: STREAM.into(),
            sequence: i64::try_from(of_host)?,
            events: i64::try_from(events)?,
        };
        flushes::put_stream(change.connection(), &stream).await?;
    }
    let number = i64::try_from(lake.committed_flush().await?)?;
    let flush = Flush { number, position: 0, arrival: i64::try_from(written)?, committed: true };
    flushes::claim(change.connection(), WRITER, flush, &[], end).await?;
    change.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_store::lake::Interval;
    use sakimori_store::query::{Expr, parse};

    #[test]
    fn a_seeded_folder_has_its_events_and_books_that_balance() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            events: 30_001,
            dir: dir.path().join("state"),
            tenant: "default".into(),
            days: 2,
            end: Some("2026-01-02T03:04:05Z".into()),
            seed: 7,
        };
        run(&options).unwrap();
        assert!(run(&options).is_err(), "once");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let config = Config { state_dir: options.dir.clone(), ..Config::default() };
            let lake = Lake::open(config.lake_options()).await.unwrap();
            let all = Interval::default();
            assert_eq!(lake.count("default", &Expr::All, all).await.unwrap(), 30_001);
            let alerts = parse("event.kind:alert").unwrap();
            assert!(lake.count("default", &alerts, all).await.unwrap() > 300);
            let control = Control::open(&format!("sqlite:{}", options.dir.join("control.db").display())).await.unwrap();
            let streams = flushes::streams(control.read()).await.unwrap();
            assert_eq!(streams.iter().map(|stream| stream.events).sum::<i64>(), 30_001);
            let counts = lake.count_by_stream("default").await.unwrap();
            for stream in streams {
                let stored = counts.iter().find(|count| count.origin == stream.origin).unwrap();
                assert_eq!(stored.events, u64::try_from(stream.events).unwrap(), "{}", stream.origin);
            }
            let last = flushes::last_committed(control.read(), WRITER).await.unwrap().unwrap();
            assert_eq!(last.arrival, 30_001);
        });
    }
}
