//! What a search, a count and a statement give, and what they must never give.

use serde_json::json;

use super::samples::{at, batch};
use super::*;
use crate::query::{Expr, parse};

async fn lake(dir: &std::path::Path) -> Lake {
    let mut options = LakeOptions::new(dir.join("lake"), "manager-1");
    options.max_rows = 100;
    let lake = Lake::open(options).await.unwrap();
    // Half in the table, half in memory; another tenant beside.
    lake.ingest(batch("default", 1, 0, 40).into()).unwrap();
    lake.ingest(batch("other", 1, 0, 5).into()).unwrap();
    lake.flush().await.unwrap();
    lake.ingest(batch("default", 2, 40, 40).into()).unwrap();
    lake.ingest(batch("other", 2, 5, 5).into()).unwrap();
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_run_newest_first_and_what_arrives_meanwhile_moves_none() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let (mut cursor, mut ids) = (None, Vec::new());
    for page in 0.. {
        let found = lake.search("default", &Expr::All, Interval::default(), 30, cursor.as_deref()).await.unwrap();
        assert!(found.hits.windows(2).all(|pair| (pair[0].time, pair[0].arrival) > (pair[1].time, pair[1].arrival)));
        ids.extend(found.hits.iter().map(|hit| hit.arrival));
        cursor = found.cursor;
        if page == 0 {
            lake.ingest(batch("default", 3, 80, 10).into()).unwrap();
            lake.flush().await.unwrap();
        }
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(ids, (0..80).rev().collect::<Vec<u64>>());
    assert!(matches!(
        lake.search("default", &Expr::All, Interval::default(), 1, Some("x")).await,
        Err(LakeError::Cursor)
    ));
    assert!(matches!(
        lake.search("default", &Expr::All, Interval::default(), 101, None).await,
        Err(LakeError::TooLarge(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_is_the_whole_event_with_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    for number in [3_u64, 43] {
        let search = parse(&format!("source.port:{number} and source.ip:198.51.100.0/24 and \"for user\"")).unwrap();
        let found = lake.search("default", &search, Interval::default(), 10, None).await.unwrap();
        assert_eq!(found.hits.len(), 1, "{number}");
        let event = &found.hits[0].event;
        let mut expected = samples::login(number);
        let (sequence, index) = (number / 40 + 1, number % 40);
        let id = format!("default:agent-1:auth:{sequence}.{index}");
        expected.set(sakimori_model::field::EVENT_ID, id.clone());
        stamp(&mut expected, "default", &found.hits[0].id, "auth", found.hits[0].received);
        assert_eq!(event, &expected);
        let by_id = parse(&format!("event.id:\"{id}\"")).unwrap();
        assert_eq!(lake.count("default", &by_id, Interval::default()).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_bounds_a_search_and_a_forged_time_does_not_hide_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let within = |from, to| Interval { from: Some(at(from)), to: Some(at(to)) };
    assert_eq!(lake.count("default", &Expr::All, within(3, 5)).await.unwrap(), 20, "memory and table");
    let mut forged = batch("default", 9, 80, 2);
    forged.events[0].set(sakimori_model::field::TIMESTAMP, Timestamp::from_secs(0));
    forged.events[1].set(sakimori_model::field::TIMESTAMP, Timestamp::from_micros(i64::MAX));
    lake.ingest(forged.into()).unwrap();
    lake.flush().await.unwrap();
    assert_eq!(lake.count("default", &Expr::All, within(8, 9)).await.unwrap(), 2, "placed at their arrival");
    let kept = parse("@timestamp < 1971-01-01 or @timestamp > 9000-01-01").unwrap();
    assert_eq!(lake.count("default", &kept, Interval::default()).await.unwrap(), 2, "the text of the log is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_count_by_stream() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let counts = lake.count_by_stream("default").await.unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!((counts[0].origin.as_str(), counts[0].stream.as_str(), counts[0].events), ("agent-1", "auth", 80));
    assert_eq!((counts[0].first, counts[0].last), (at(0), at(7)));
    assert_eq!(lake.count_by_stream("nobody").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_sees_memory_and_table_of_one_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let sql = r#"SELECT "user.name", count(*) AS n, min("@timestamp") FROM events WHERE "source.port" < 70 AND array_has("event.category", 'authentication') GROUP BY 1 ORDER BY 1 LIMIT 1"#;
    let table = lake.sql("default", sql).await.unwrap();
    assert_eq!(table.columns[..2], ["user.name", "n"]);
    assert_eq!(table.rows, [[json!("user0"), json!(10), json!("2026-01-02T03:04:05.000000Z")]]);
    assert!(lake.sql("default", "EXPLAIN SELECT 1").await.is_ok());
    assert!(lake.sql("default", "WITH a AS (SELECT * FROM events) SELECT count(*) FROM a").await.is_ok());
    assert!(matches!(lake.sql("default", "SELECT nothing FROM events").await, Err(LakeError::Query(_))));
    let all = lake.sql("default", r#"SELECT "source.port" FROM events, (VALUES (1), (2))"#).await.unwrap();
    assert!(all.more && all.rows.len() == 100, "the first rows, and said so");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_leaves_the_tenant_or_changes_anything() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let count = |table: Table| table.rows[0][0].clone();
    for sql in [
        "SELECT count(*) FROM events",
        r#"SELECT count(*) FROM events WHERE "organization.id" = 'default' OR true"#,
        r#"SELECT count(*) FROM events a WHERE "organization.id" <> 'other'"#,
        "SELECT count(*) FROM (SELECT * FROM events UNION ALL SELECT * FROM events WHERE false)",
    ] {
        assert_eq!(count(lake.sql("default", sql).await.unwrap()), json!(80), "{sql}");
    }
    let others = r#"SELECT count(*) FROM events WHERE "organization.id" = 'other'"#;
    assert_eq!(count(lake.sql("default", others).await.unwrap()), json!(0));
    let files = format!("SELECT * FROM '{}'", dir.path().join("lake").display());
    for sql in [
        "DROP TABLE events",
        "DROP VIEW events",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/tmp'",
        "COPY events TO '/tmp/x.parquet'",
        "COPY (SELECT 1) TO '/tmp/x.csv' STORED AS CSV",
        "EXPLAIN COPY events TO '/tmp/x.parquet'",
        "INSERT INTO events SELECT * FROM events",
        "DELETE FROM events",
        "UPDATE events SET message = 'x'",
        "SELECT 1 INTO x",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "SHOW TABLES",
        "SHOW ALL",
        "SELECT 1; SELECT 2",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM generate_series(1, 10)",
        "SELECT * FROM range(1, 10)",
        "SELECT * FROM other",
        "SELECT * FROM lake.public.memory",
        "DESCRIBE events",
        files.as_str(),
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/tmp/x')",
        "INSERT INTO alerts SELECT * FROM alerts",
        "DROP VIEW alerts",
    ] {
        match lake.sql("default", sql).await {
            Err(LakeError::Refused(_) | LakeError::Query(_)) => {}
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert_eq!(lake.count("default", &Expr::All, Interval::default()).await.unwrap(), 80);
    assert_eq!(lake.count("other", &Expr::All, Interval::default()).await.unwrap(), 10);
    let search = lake.search("other' OR '1'='1", &Expr::All, Interval::default(), 10, None).await.unwrap();
    assert_eq!(search.hits, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_stopped_and_the_lake_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LakeOptions::new(dir.path().join("lake"), "manager-1");
    options.query_timeout = Duration::from_secs(2);
    let lake = Lake::open(options).await.unwrap();
    lake.ingest(batch("default", 1, 0, 1_000).into()).unwrap();
    let endless = "SELECT count(*) FROM events a, events b, events c, events d WHERE a.message || b.message || c.message = d.message";
    let stopped = lake.sql("default", endless).await;
    assert!(matches!(stopped, Err(LakeError::TimedOut(2))), "{stopped:?}");
    assert_eq!(lake.count("default", &Expr::All, Interval::default()).await.unwrap(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_larger_than_allowed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LakeOptions::new(dir.path().join("lake"), "manager-1");
    options.max_result_bytes = 10_000;
    let lake = Lake::open(options).await.unwrap();
    lake.ingest(batch("default", 1, 0, 1_000).into()).unwrap();
    assert!(matches!(lake.sql("default", "SELECT * FROM events").await, Err(LakeError::TooLarge(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_wants_more_memory_than_there_is_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LakeOptions::new(dir.path().join("lake"), "manager-1");
    options.query_memory = 1 << 20;
    options.max_spill_bytes = 0;
    let lake = Lake::open(options).await.unwrap();
    lake.ingest(batch("default", 1, 0, 2_000).into()).unwrap();
    let greedy = "SELECT a.message || b.message AS m, count(*) FROM events a, events b GROUP BY 1 ORDER BY 2 LIMIT 1";
    let refused = lake.sql("default", greedy).await;
    assert!(matches!(refused, Err(LakeError::TooLarge(_))), "{refused:?}");
    assert_eq!(lake.count("default", &Expr::All, Interval::default()).await.unwrap(), 2_000);
}
