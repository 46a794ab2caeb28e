//! Measurements, run by hand: `cargo test -p sakimori-store measure -- --ignored --nocapture`.
//! They leave the table in `SAKIMORI_MEASURE_DIR` where that is set, for other readers to count.

use std::time::Instant;

use super::samples::batch;
use super::*;
use crate::query::{Expr, parse};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes"]
async fn measure_ingest_flush_and_search() {
    let kept = std::env::var_os("SAKIMORI_MEASURE_DIR").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let dir = kept.unwrap_or_else(|| temporary.path().to_owned());
    let mut options = LakeOptions::new(dir.join("lake"), "manager-1");
    options.max_memory = 4 << 30;
    let lake = Lake::open(options).await.unwrap();
    let (rounds, each, size) = (10_u64, 100_000_u64, 1_000_u64);
    for round in 0..rounds {
        let batches: Vec<_> = (0..each / size)
            .map(|part| batch("default", round * (each / size) + part + 1, round * each + part * size, size))
            .collect();
        let begin = Instant::now();
        for batch in batches {
            lake.ingest(batch.into()).unwrap();
        }
        let took = begin.elapsed();
        let bytes = lake.status().unwrap().waiting_bytes;
        let begin = Instant::now();
        lake.flush().await.unwrap();
        println!(
            "round {round}: ingest {:.0} events/s, {bytes} bytes in memory; flush of {each} in {:?}",
            each as f64 / took.as_secs_f64(),
            begin.elapsed()
        );
    }
    let small: Vec<_> = (0..5_000).map(|number| batch("small", number + 1, number, 2)).collect();
    let begin = Instant::now();
    for batch in small {
        lake.ingest(batch.into()).unwrap();
    }
    println!("batches of two events: {:.0} events/s", 10_000.0 / begin.elapsed().as_secs_f64());
    for text in
        ["*", "user.name:user3", "source.ip:198.51.100.0/28", "source.port:4242", "publickey", "host.hostname:x"]
    {
        let query = parse(text).unwrap();
        let begin = Instant::now();
        let found = lake.search("default", &query, Interval::default(), 50, None).await.unwrap();
        let searched = begin.elapsed();
        let begin = Instant::now();
        let count = lake.count("default", &query, Interval::default()).await.unwrap();
        println!("{text}: {} of {count} in {searched:?}, counted in {:?}", found.hits.len(), begin.elapsed());
    }
    let minute = Interval { from: Some(samples::at(90_000)), to: Some(samples::at(90_060)) };
    let begin = Instant::now();
    let count = lake.count("default", &Expr::All, minute).await.unwrap();
    println!("one minute: {count} in {:?}", begin.elapsed());
    let begin = Instant::now();
    println!("books: {:?} in {:?}", lake.count_by_stream("default").await.unwrap(), begin.elapsed());
}
