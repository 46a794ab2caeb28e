use super::*;
use serde_json::json;

fn sources() -> Vec<LogSource> {
    let mut files = BTreeMap::new();
    for (name, yaml) in [
        (
            "finding",
            "framing: json\nrecognise: { fields: [{ source: acme.find, detail.id: '*' }] }\noccurrence: [detail.id, detail.at]\nsays: [detail.id, detail.level]\n",
        ),
        ("group", "framing: json\nrecognise: { fields: [{ kind: group }] }\nrecords: [body.list]\n"),
        ("line", "framing: line\nrecognise: { prefixes: ['A:'] }\n"),
    ] {
        let head = format!("id: acme/{name}\ntitle: {{ en: x, ja: x }}\ndataset: acme.{name}\n");
        files.insert(format!("logs/acme/{name}/source.yaml"), format!("{head}{yaml}").into_bytes());
        files.insert(format!("logs/acme/{name}/source.vrl"), b".event.kind = \"event\"\n".to_vec());
    }
    let (sources, errors) = LogSource::load_all(&files);
    assert!(errors.is_empty(), "{errors:?}");
    sources
}

fn records(body: &str) -> Vec<Record> {
    let each = open(body.as_bytes(), "", &sources()).into_iter().map(|one| match one {
        Arrived::Record(record) => record,
        Arrived::Dead(reason, ..) => panic!("{reason}"),
    });
    each.collect()
}

fn finding(at: &str, level: u32) -> String {
    json!({"source": "acme.find", "detail": {"id": "f1", "at": at, "level": level}}).to_string()
}

fn wrapped(id: &str, message: &str) -> String {
    json!({"Type": "Notification", "MessageId": id, "TopicArn": "arn", "Message": message, "Timestamp": "t"})
        .to_string()
}

#[test]
fn an_occurrence_is_the_same_by_every_way_and_another_where_its_fields_differ() {
    let bare = records(&finding("1", 5)).remove(0);
    assert_eq!(bare.source, 0);
    let by_topic = records(&wrapped("m1", &finding("1", 5))).remove(0);
    let twice = records(&wrapped("m2", &wrapped("m1", &finding("1", 5)))).remove(0);
    assert_eq!((&bare, &bare), (&by_topic, &twice));
    let later = records(&finding("2", 5)).remove(0);
    assert_ne!(bare.occurrence, later.occurrence);
    assert_eq!(bare.says, later.says, "it says the same");
    assert_ne!(bare.says, records(&finding("2", 7)).remove(0).says);
}

#[test]
fn where_a_record_does_not_name_itself_the_message_does() {
    let body = json!({"kind": "group", "body": {"of": "all", "list": [{"n": 1}, {"n": 2}]}}).to_string();
    let (one, other) = (records(&wrapped("m1", &body)), records(&wrapped("m2", &body)));
    assert_eq!(one.len(), 2);
    let line: Json = serde_json::from_slice(&one[1].line).unwrap();
    assert_eq!(line, json!({"body": {"list": {"n": 2}, "of": "all"}, "kind": "group"}));
    assert_ne!(one[0].occurrence, one[1].occurrence);
    assert_ne!(one[0].occurrence, other[0].occurrence);
    assert_eq!(one, records(&wrapped("m1", &body)));
}

#[test]
fn lists_texts_and_lines_are_taken_apart() {
    let list = json!([finding("1", 5), {"source": "acme.find", "detail": {"id": "f2", "at": "1"}}]).to_string();
    assert_eq!(records(&list).len(), 2, "an element that is text holds a record");
    assert_eq!(
        records("A: one\r\n\nA: two\n").iter().map(|one| one.line.as_slice()).collect::<Vec<_>>(),
        [b"A: one".as_slice(), b"A: two"]
    );
    assert_eq!(records(&wrapped("m", "A: one")).len(), 1);
}

#[test]
fn what_nobody_reads_is_a_dead_letter_with_its_reason() {
    for body in ["{\"a\": 1}", "[1, 2]", "{broken", "text", "\u{0}"] {
        let arrived = open(body.as_bytes(), "", &sources());
        assert!(!arrived.is_empty());
        for one in arrived {
            let Arrived::Dead(reason, original, occurrence) = one else { panic!("{body}") };
            let event = dead_letter(&reason, &original, &occurrence, Timestamp::from_secs(1));
            assert_eq!(event.str(field::EVENT_DATASET), Some(DEAD));
            assert!(event.str(field::ERROR_MESSAGE).unwrap().contains("no log source"));
            assert!(event.str(field::EVENT_ORIGINAL).is_some());
        }
    }
    let event = dead_letter("x", &vec![b'a'; MAX_DEAD + 1], &[0; 16], Timestamp::from_secs(1));
    assert_eq!(event.str(field::EVENT_ORIGINAL).unwrap().len(), MAX_DEAD);
    assert!(event.to_json()["tags"].to_string().contains("_original_cut"));
}

#[test]
fn a_message_that_grows_without_end_is_cut_and_says_so() {
    let many = json!({"kind": "group", "body": {"list": vec![1; MAX_RECORDS + 50]}}).to_string();
    let arrived = open(many.as_bytes(), "", &sources());
    assert_eq!(arrived.len(), MAX_RECORDS + 1);
    assert!(matches!(arrived.last(), Some(Arrived::Dead(reason, ..)) if reason.contains("at most")));
    // What surrounds the list is carried by each record.
    let wide = json!({"kind": "group", "wide": "x".repeat(200_000), "body": {"list": vec![1; 900]}}).to_string();
    let written = |arrived: &Arrived| match arrived {
        Arrived::Record(record) => record.line.len(),
        Arrived::Dead(_, original, _) => original.len(),
    };
    let total: usize = open(wide.as_bytes(), "", &sources()).iter().map(written).sum();
    assert!(total < MAX_WRITTEN + 500_000, "{total}");
    assert_eq!(open("A: x\n".repeat(MAX_RECORDS + 9).as_bytes(), "", &sources()).len(), MAX_RECORDS + 1);
}
