//! Events in memory and rows of the lake are judged alike, and a row gives its event back.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use sakimori_model::{Event, field as f};
use sakimori_wire::batch::BatchHeader;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::lake::layout::{BATCH, INDEX, TENANT};
use crate::lake::{Hit, StampedBatch, rows, samples};

fn value() -> impl Strategy<Value = Json> {
    let one = prop::sample::select(vec![
        json!("root"),
        json!("Root"),
        json!("198.51.100.7"),
        json!("2001:db8::1"),
        json!("no address"),
        json!(7),
        json!(404),
        json!(4.5),
        json!(true),
        json!("2026-01-02T03:04:05.000006Z"),
        json!({"stage": "live"}),
        json!(null),
    ]);
    prop_oneof![4 => one.clone(), 1 => prop::collection::vec(one, 0..3).prop_map(Json::Array)]
}

const NAMES: &[&str] = &[
    "source.ip",
    "related.ip",
    "user.name",
    "event.category",
    "message",
    "http.response.status_code",
    "event.risk_score",
    "sakimori.probe",
    "event.created",
    "event.ingested",
    "labels",
    "labels.stage",
    "host.hostname",
    "event.id",
    "acme.audit.id",
    "rule",
    "sakimori.stream",
];

fn event() -> impl Strategy<Value = Event> {
    prop::collection::vec((prop::sample::select(NAMES), value()), 0..8).prop_map(|pairs| {
        let document: Map<String, Json> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Event::from_json(document).0
    })
}

fn search() -> impl Strategy<Value = Expr> {
    let value = prop::sample::select(vec![
        "root",
        "ro*",
        "*",
        "198.51.100.7",
        "198.51.100.0/24",
        "2001:db8::/32",
        "7",
        "[4 to 404]",
        "true",
        "LIVE",
        "2026-01-02",
        "\"no address\"",
        "agent*",
        "auth",
    ]);
    let name = prop::sample::select(NAMES)
        .prop_map(|name| if FieldRef::path(name).is_plain() { name.to_owned() } else { format!("\"{name}\"") });
    let leaf = (name, value)
        .prop_map(|(name, value)| parse(&format!("{name}:{value}")).or_else(|_| parse(value)).unwrap_or(Expr::All));
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..3).prop_map(Expr::and),
            prop::collection::vec(inner.clone(), 2..3).prop_map(Expr::or),
            inner.prop_map(Expr::negate),
        ]
    })
}

fn batch(events: Vec<Event>) -> StampedBatch {
    let header = BatchHeader {
        id: "agent-1:auth:1".into(),
        origin: "agent-1".into(),
        stream: "auth".into(),
        ..BatchHeader::default()
    };
    StampedBatch { tenant: "default".into(), header, events, arrival: samples::at(0), first_sequence: 0 }
}

async fn lake_says(batch: &Arc<StampedBatch>, searches: &[Expr]) -> (Vec<Hit>, Vec<Vec<i64>>) {
    let days = rows::encode(std::slice::from_ref(batch)).unwrap();
    let session = SessionContext::new();
    let mut hits = Vec::new();
    let mut found = vec![Vec::new(); searches.len()];
    for rows in days.into_values() {
        hits.extend(rows::decode(&rows, "default"));
        let whole = rows::is_whole(&rows);
        let schema = rows.schema();
        let table = datafusion::datasource::MemTable::try_new(schema, vec![vec![rows]]).unwrap();
        let frame = session.read_table(Arc::new(table)).unwrap();
        let frame = frame.with_column(TENANT, datafusion::logical_expr::lit("default")).unwrap();
        for (search, found) in searches.iter().zip(&mut found) {
            let mut answers = Vec::new();
            let conditions = [Some(search.to_datafusion()), whole.then(|| search.to_datafusion_of_whole())];
            for condition in conditions.into_iter().flatten() {
                let frame = frame.clone().filter(condition).unwrap();
                let frame = frame.select([BATCH, INDEX].map(datafusion::prelude::ident)).unwrap();
                let rows = frame.collect().await.unwrap();
                let number = |rows: &datafusion::arrow::array::RecordBatch| {
                    (0..rows.num_rows()).filter_map(|row| rows::long_at(rows.column(1), row)).collect::<Vec<i64>>()
                };
                answers.push(rows.iter().flat_map(number).collect::<Vec<i64>>());
            }
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "with and without the rest: {search}");
            found.extend(answers.swap_remove(0));
        }
    }
    hits.sort_by_key(|hit| hit.id.index);
    found.iter_mut().for_each(|found| found.sort_unstable());
    (hits, found)
}

fn check(events: Vec<Event>, searches: &[Expr]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let batch = Arc::new(batch(events));
    let (hits, found) = runtime.block_on(lake_says(&batch, searches));
    for (original, hit) in batch.events.iter().zip(&hits) {
        let mut expected = original.clone();
        rows::stamp(&mut expected, "default", &hit.id, "auth", batch.arrival);
        // ECS lists come back as lists.
        for field in [f::RELATED_IP, f::EVENT_CATEGORY] {
            if let Some(value) = expected.get(field).cloned() {
                expected.set(field, sakimori_model::Value::List(value.each().to_vec()));
            }
        }
        prop_assert_eq!(&hit.event, &expected);
    }
    for (search, found) in searches.iter().zip(found) {
        let expected: Vec<i64> =
            hits.iter().filter(|hit| search.matches(&hit.event)).map(|hit| i64::from(hit.id.index)).collect();
        prop_assert_eq!(found, expected, "{}", search);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_lake_agrees_with_the_event(
        events in prop::collection::vec(event(), 1..12),
        searches in prop::collection::vec(search(), 6),
    ) {
        check(events, &searches)?;
    }

    #[test]
    fn the_lake_agrees_on_events_whose_values_all_have_their_columns(
        port in prop::option::of(0_i64..5), name in prop::option::of(prop::sample::select(vec!["root", "Root", "ann"])),
        ip in prop::option::of(prop::sample::select(vec!["198.51.100.7", "::ffff:198.51.100.7", "2001:db8::1"])),
        searches in prop::collection::vec(search(), 6),
    ) {
        let mut event = Event::new();
        event.set_path("acme.audit.id", json!(7));
        if let Some(port) = port {
            event.set(f::HTTP_RESPONSE_STATUS_CODE, port);
        }
        if let Some(name) = name {
            event.set(f::USER_NAME, name);
        }
        if let Some(ip) = ip {
            event.set(f::SOURCE_IP, ip.parse::<std::net::IpAddr>().unwrap());
        }
        let encoded = rows::encode(&[Arc::new(batch(vec![event.clone()]))]).unwrap();
        prop_assert!(encoded.values().all(rows::is_whole));
        let own = ["source.ip:198.51.100.7", "not source.ip:198.51.100.7", "source.ip:\"::ffff:198.51.100.7\""];
        let own = own.into_iter().map(|text| parse(text).unwrap());
        check(vec![event], &own.chain(searches).collect::<Vec<_>>())?;
    }

    #[test]
    fn the_lake_agrees_on_any_expression(
        events in prop::collection::vec(event(), 1..6),
        searches in prop::collection::vec(super::parser_tests::expr(), 2),
    ) {
        check(events, &searches)?;
    }
}
