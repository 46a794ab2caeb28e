//! What a page of the console asks of a lake of many files: rows in both orders over slices, one event, what arrived
//! since, counts over time and values; and that files say when their rest need not be read.

use sakimori_model::field as f;
use sakimori_model::id::EventId;
use serde_json::json;

use super::samples::{at, batch};
use super::*;
use crate::query::{Expr, FieldRef, parse};

/// Forty flushes of forty events, ten a second, and forty events in memory.
async fn lake(dir: &std::path::Path) -> Lake {
    let options = LakeOptions { slice_rows: 400, ..LakeOptions::new(dir.join("lake"), "manager-1") };
    let lake = Lake::open(options).await.unwrap();
    for flush in 0..40 {
        lake.ingest(batch("default", flush + 1, flush * 40, 40).into()).unwrap();
        lake.flush().await.unwrap();
    }
    lake.ingest(batch("default", 41, 1_600, 40).into()).unwrap();
    lake.ingest(batch("other", 1, 0, 5).into()).unwrap();
    lake
}

async fn walk(lake: &Lake, query: &Expr, interval: Interval, order: Order) -> Vec<u64> {
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let ask =
            Ask { query, interval, limit: 97, cursor: cursor.as_deref(), order, fields: Some(vec![f::USER_NAME]) };
        let found = lake.page("default", ask).await.unwrap();
        assert!(
            found.hits.iter().all(|hit| hit.event.get(f::USER_NAME).is_some() && hit.event.get(f::SOURCE_IP).is_none())
        );
        seen.extend(found.hits.iter().map(|hit| hit.arrival));
        cursor = found.cursor;
        if cursor.is_none() {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_what_few_rows_have_on_disk_and_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(LakeOptions::new(dir.path().join("lake"), "manager-1")).await.unwrap();
    for sequence in 0..3 {
        let mut batch = batch("default", sequence + 1, sequence * 40, 40);
        let event = batch.events.get_mut(7).unwrap();
        match sequence {
            0 => event.set(f::PROCESS_COMMAND_LINE, "rare -x"),
            1 => event.push(f::TAGS, "rare"),
            _ => event.set(f::FILE_PATH, "/rare"),
        }
        lake.ingest(batch.into()).unwrap();
        if sequence < 2 {
            lake.flush().await.unwrap();
        }
    }
    let found = lake.search("default", &Expr::All, Interval::default(), 200, None).await.unwrap();
    let with = |field| found.hits.iter().filter(move |hit| hit.event.get(field).is_some()).count();
    assert_eq!(found.hits.len(), 120);
    assert_eq!([f::PROCESS_COMMAND_LINE, f::TAGS, f::FILE_PATH].map(with), [1, 1, 1]);
    assert_eq!([f::SOURCE_IP, f::MESSAGE, f::EVENT_CATEGORY].map(with), [120, 120, 120]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cover_everything_once_in_either_order() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let up: Vec<u64> = (0..1_640).collect();
    assert_eq!(walk(&lake, &Expr::All, Interval::default(), Order::Oldest).await, up);
    let down: Vec<u64> = up.iter().rev().copied().collect();
    assert_eq!(walk(&lake, &Expr::All, Interval::default(), Order::Newest).await, down);
    let within = Interval { from: Some(at(10)), to: Some(at(20)) };
    assert_eq!(walk(&lake, &Expr::All, within, Order::Newest).await, (100..200).rev().collect::<Vec<u64>>());
    let some = parse("source.port:(3 or 803 or 1639)").unwrap();
    assert_eq!(walk(&lake, &some, Interval::default(), Order::Newest).await, [1_639, 803, 3], "far from each other");
    let of_one = parse("user.name:USER3 and source.ip:198.51.100.10").unwrap();
    let theirs = |number: &u64| number % 7 == 3 && number % 250 == 10;
    assert_eq!(
        walk(&lake, &of_one, Interval::default(), Order::Oldest).await,
        up.iter().copied().filter(theirs).collect::<Vec<u64>>()
    );
    assert_eq!(
        walk(&lake, &of_one, Interval::default(), Order::Newest).await,
        down.iter().copied().filter(theirs).collect::<Vec<u64>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rare_is_paged_as_all_else() {
    let dir = tempfile::tempdir().unwrap();
    let options = LakeOptions { slice_rows: 100, ..LakeOptions::new(dir.path().join("lake"), "manager-1") };
    let lake = Lake::open(options).await.unwrap();
    let mut rare = Vec::new();
    for flush in 0..16 {
        let mut batch = batch("default", flush + 1, flush * 40, 40);
        let in_it: &[usize] = match flush {
            2 | 9 => &[39],
            3 => &[0, 1, 2, 3, 20],
            7 | 15 => &[5, 6],
            _ => &[],
        };
        for at in in_it {
            let event = batch.events.get_mut(*at).unwrap();
            event.set(f::USER_NAME, "rare");
            event.set(f::PROCESS_COMMAND_LINE, format!("rare {flush}"));
            rare.push(flush * 40 + *at as u64);
        }
        lake.ingest(batch.into()).unwrap();
        if flush < 15 {
            lake.flush().await.unwrap();
        }
    }
    let query = parse("user.name:rare").unwrap();
    for order in [Order::Oldest, Order::Newest] {
        for limit in [1, 4, 11, 500] {
            let (mut cursor, mut seen) = (None, Vec::new());
            loop {
                let interval = Interval::default();
                let ask = Ask { query: &query, interval, limit, cursor: cursor.as_deref(), order, fields: None };
                let found = lake.page("default", ask).await.unwrap();
                for hit in &found.hits {
                    let line = format!("rare {}", hit.arrival / 40);
                    assert_eq!(hit.event.str(f::PROCESS_COMMAND_LINE), Some(line.as_str()));
                    assert!(hit.event.get(f::MESSAGE).is_some());
                }
                assert!(found.hits.len() == limit || found.cursor.is_none(), "a page but the last is full");
                seen.extend(found.hits.iter().map(|hit| hit.arrival));
                cursor = found.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            if order == Order::Newest {
                seen.reverse();
            }
            assert_eq!(seen, rare, "{order:?} by {limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_found_by_its_id_and_only_by_its_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    for (sequence, time) in [(3_u64, 8), (41, 160)] {
        let id = EventId { batch: format!("default:agent-1:auth:{sequence}"), index: 7 };
        for near in [None, Some(at(time)), Some(at(5))] {
            let hit = lake.event("default", &id, near).await.unwrap().unwrap();
            assert_eq!((hit.id, hit.arrival), (id.clone(), (sequence - 1) * 40 + 7));
        }
        assert_eq!(lake.event("other", &id, None).await.unwrap(), None);
        let others = EventId { batch: "default:agent-1:auth:9".into(), index: 1 };
        let missing = EventId { batch: "nobody".into(), index: 1 };
        let span = Interval { from: Some(at(0)), to: Some(at(2)) };
        let found = lake.events_by_id("default", &[id, others, missing], span).await.unwrap();
        assert_eq!(found.len(), 2, "also beyond the span");
    }
    assert_eq!(lake.events_by_id("default", &[], Interval::default()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_since_comes_in_that_order_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let query = parse("user.name:user1").unwrap();
    let hits = lake.arrived_after("default", 1_590, &query, 3).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.arrival).collect::<Vec<_>>(), [1_597, 1_604, 1_611]);
    assert_eq!(lake.arrived_after("default", 1_639, &Expr::All, 9).await.unwrap(), []);
    assert_eq!(lake.arrived_after("default", u64::MAX, &Expr::All, 9).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_over_time_and_values_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(dir.path()).await;
    let extent = lake.extent("default").await.unwrap();
    assert_eq!((extent.events, extent.first), (1_640, Some(at(0))));
    assert!(extent.last.unwrap() >= at(163) && extent.last.unwrap() < at(165));
    assert_eq!(lake.extent("nobody").await.unwrap(), Extent::default());
    let by = FieldRef::path("user.name");
    let found = lake.histogram("default", &Expr::All, (at(0), at(164)), 60, Some(&by)).await.unwrap();
    let counts: Vec<u64> = found.buckets.iter().map(|bucket| bucket.count).collect();
    // 03:04:05 is five seconds into its minute.
    assert_eq!((counts, found.total), (vec![550, 600, 490], 1_640));
    assert_eq!(found.series.len(), 7);
    assert!(found.buckets.iter().all(|bucket| bucket.by.iter().sum::<u64>() == bucket.count));
    let many = FieldRef::path("source.port");
    let found = lake.histogram("default", &Expr::All, (at(0), at(164)), 60, Some(&many)).await.unwrap();
    assert_eq!(found.series.len(), 10, "the most frequent");
    assert!(found.buckets.iter().all(|bucket| bucket.by.iter().sum::<u64>() <= bucket.count));
    let wide = lake.histogram("default", &Expr::All, (at(0), at(86_400)), 1, None).await;
    assert!(matches!(wide, Err(LakeError::TooLarge(_))), "{wide:?}");

    let values = |field: &str, prefix: &str, limit, sample| {
        let (field, prefix, lake) = (FieldRef::path(field), prefix.to_owned(), lake.clone());
        async move {
            let asked = (prefix.as_str(), limit, sample);
            lake.values("default", &Expr::All, Interval::default(), &field, asked).await.unwrap()
        }
    };
    let users = values("user.name", "USER", 2, None).await;
    assert_eq!(users.items, [("user0".to_owned(), 235), ("user1".to_owned(), 235)]);
    assert!(users.more && users.since.is_none());
    let newest = values("user.name", "", 9, Some(100)).await;
    assert!(newest.since.is_some() && newest.items.iter().map(|(_, n)| n).sum::<u64>() < 300, "{newest:?}");
    let listed = values("event.category", "auth", 9, None).await;
    assert_eq!(listed.items, [("authentication".to_owned(), 1_640)]);
    assert_eq!(values("user.name", "nobody", 9, None).await, Values::default());
    let rest = values("ecs.version", "", 9, None).await;
    assert_eq!(rest.items, [("8.17".to_owned(), 1_640)], "without a column");
    assert_eq!(lake.count_up_to("default", &Expr::All, Interval::default(), 1_000).await.unwrap(), (1_000, true));
    assert_eq!(lake.count_up_to("default", &Expr::All, Interval::default(), 1_640).await.unwrap(), (1_640, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_says_whether_its_rest_matters_and_what_lies_there_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(LakeOptions::new(dir.path().join("lake"), "manager-1")).await.unwrap();
    lake.ingest(batch("default", 1, 0, 40).into()).unwrap();
    lake.flush().await.unwrap();
    let whole = |files: &[PathBuf]| {
        let end = format!("{}.parquet", layout::layout().mark);
        files.iter().filter(|file| file.to_string_lossy().ends_with(&end)).count()
    };
    let files = lake.files("default").await.unwrap();
    assert_eq!((files.len(), whole(&files)), (1, 1));
    assert!(files[0].is_file(), "{files:?}");
    let address = parse("source.ip:198.51.100.3").unwrap();
    assert_eq!(lake.count("default", &address, Interval::default()).await.unwrap(), 1);
    // A value that does not fit its column, and several where one is usual: both lie in the rest.
    let mut strays = batch("default", 2, 40, 2);
    strays.events[0].set_json(f::SOURCE_IP, json!("no address"));
    strays.events[1].set(
        f::SOURCE_IP,
        sakimori_model::Value::List(vec![
            sakimori_model::Value::Ip("192.0.2.1".parse().unwrap()),
            sakimori_model::Value::Ip("198.51.100.3".parse().unwrap()),
        ]),
    );
    lake.ingest(strays.into()).unwrap();
    lake.flush().await.unwrap();
    let files = lake.files("default").await.unwrap();
    assert_eq!((files.len(), whole(&files)), (2, 1), "{files:?}");
    assert_eq!(lake.count("default", &address, Interval::default()).await.unwrap(), 2);
    let stray = parse("source.ip:no*").unwrap();
    assert_eq!(lake.count("default", &stray, Interval::default()).await.unwrap(), 1);
    lake.compact(at(10 * 86_400)).await.unwrap();
    let files = lake.files("default").await.unwrap();
    assert_eq!((files.len(), whole(&files)), (1, 0), "joined with one that is not");
    assert_eq!(lake.count("default", &address, Interval::default()).await.unwrap(), 2);
}
