//! What the layer over two databases costs, run by hand: `cargo test -p sakimori-store statements_cost -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::sql::{Pool, query};
use super::tests::Base;
use super::{Control, postgres_server};

/// Rows of each measurement.
const ROWS: i64 = 20_000;

/// Claims as a flush makes them, by this layer.
async fn layered(control: &Control, round: i64) -> Duration {
    let began = Instant::now();
    let mut change = control.begin().await.unwrap();
    for number in 0..ROWS {
        query("INSERT INTO claims (batch, writer, number) VALUES ($1, $2, $3)")
            .bind(format!("{round}:{number}"))
            .bind("manager")
            .bind(number)
            .execute(change.connection())
            .await
            .unwrap();
    }
    change.commit().await.unwrap();
    began.elapsed()
}

/// The same without it.
async fn plain(control: &Control, round: i64) -> Duration {
    let Pool::Sqlite(pool) = &control.writer else { panic!("a file") };
    let began = Instant::now();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for number in 0..ROWS {
        sqlx::query("INSERT INTO claims (batch, writer, number) VALUES ($1, $2, $3)")
            .bind(format!("{round}:{number}"))
            .bind("manager")
            .bind(number)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    began.elapsed()
}

#[tokio::test]
#[ignore = "a measurement"]
async fn statements_cost_what_they_cost_without_this_layer() {
    let mut best = [Duration::MAX; 3];
    // Each time in a fresh file, in turns; the best of each counts.
    for round in 0..5 {
        for (at, best) in best.iter_mut().take(2).enumerate() {
            let (_dir, control) = Base::File.fresh().await;
            let took = if at == 0 { plain(&control, round).await } else { layered(&control, round).await };
            *best = took.min(*best);
        }
    }
    if let Some(server) = postgres_server::server("statements_cost") {
        let (_dir, control) = Base::Server(server).fresh().await;
        best[2] = layered(&control, 0).await;
    }
    println!(
        "{ROWS} inserts: sqlx {:?}, by this layer {:?}, on a server of this machine {:?}",
        best[0], best[1], best[2]
    );
}
