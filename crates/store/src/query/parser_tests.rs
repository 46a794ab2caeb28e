//! What a person may type, what comes of it, and what is said about mistakes.

use proptest::prelude::*;
use sakimori_model::catalog::{FIELDS, FieldKind};
use sakimori_model::{Event, Timestamp, field as f};

use super::wildcard::{Part, Wildcard};
use super::*;

fn login() -> Event {
    let mut event = Event::new();
    event.set(f::TIMESTAMP, Timestamp::from_secs(1_767_323_045));
    event.set(f::MESSAGE, "Failed password for root from 198.51.100.7 port 22 ssh2");
    event.set(f::SOURCE_IP, "198.51.100.7".parse::<std::net::IpAddr>().unwrap());
    event.set(f::SOURCE_PORT, 50_022_i64);
    event.set(f::USER_NAME, "root");
    event.push(f::RELATED_USER, "root");
    event.push(f::RELATED_USER, "admin");
    event.push(f::EVENT_CATEGORY, "authentication");
    event.set_path("labels", serde_json::json!({"env": {"stage": "live"}}));
    event.set_path("acme.audit", serde_json::json!({"id": 7, "tags": ["a", "B"]}));
    event
}

#[test]
fn searches_find_what_they_say() {
    let event = login();
    for (text, expected) in [
        ("", true),
        ("*", true),
        ("source.ip:198.51.100.0/24 and not user.name:ro*", false),
        ("source.ip:198.51.100.0/24 AND NOT user.name:admin", true),
        ("source.ip:198.51.100.7", true),
        ("source.ip:198.51.*", true),
        ("source.ip:[198.51.100.0 to 198.51.100.9]", true),
        ("source.ip:2001:db8::/32", false),
        ("user.name:ROOT", true),
        ("user.name:(admin or root)", true),
        ("user.name: root and source.ip: 198.51.100.0/24", true),
        ("user.name : (admin or root)", true),
        ("error.message: * or not user.name : root", false),
        ("user.name:(not root)", false),
        ("related.user:admin", true),
        ("source.port >= 50000", true),
        ("source.port>=50000 source.port<50022", false),
        ("source.port:[* to 50022]", true),
        ("source.port != 22", true),
        ("message:\"failed PASSWORD\"", true),
        ("failed \"for root\"", true),
        ("failed publickey", false),
        ("fail*root", true),
        ("error.message:*", false),
        ("not error.message:*", true),
        ("user.name:* or nothing", true),
        ("@timestamp:2026-01-02", true),
        ("@timestamp > 2026-01-02", false),
        ("@timestamp <= 2026-01-02", true),
        ("\"acme.audit.id\":7", true),
        ("\"acme.audit.id\" > 6", true),
        ("\"acme.audit.tags\":b", true),
        ("labels.env.stage:live", true),
        ("labels.env:*", true),
        ("198.51.100.7", true),
        ("2001:db8::1", false),
        ("(user.name:root or user.name:x) source.port:1", false),
        ("user.name:root or user.name:x source.port:1", true),
    ] {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.matches(&event), expected, "{text} is {expr}");
    }
}

#[test]
fn mistakes_are_named_with_their_column_and_what_to_try() {
    for (text, column, reason, hint) in [
        ("user.name:root and sorce.ip:1.2.3.4", 20, "unknown field", "source.ip"),
        ("status_code:404", 1, "unknown field", "http.response.status_code"),
        ("user.name:", 11, "no value", "user.name:*"),
        ("source.ip:300.1.1.1", 11, "wants an address", "192.0.2.0/24"),
        ("source.ip:1.2.3.4/40", 11, "wants an address", "192.0.2.0/24"),
        ("http.response.status_code:abc", 27, "wants a number", ""),
        ("http.response.status_code:4*", 27, "wildcards", "range"),
        ("(user.name:root", 1, "never closed", ""),
        ("user.name:root)", 15, "without its opening", ""),
        ("user.name:\"root", 11, "never closed", ""),
        ("or user.name:x", 1, "nothing stands before", "quotes"),
        ("source.port:[1 2]", 13, "no range", "low to high"),
        ("sakimori.probe:maybe", 16, "true or false", ""),
        ("あ user.nam:x", 3, "unknown field", "user.name"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        let before: String = text.chars().take(column - 1).collect();
        assert_eq!(error.offset, before.encode_utf16().count(), "{text}");
        assert!(error.length >= 1 && error.offset + error.length <= text.encode_utf16().count() + 1, "{text}");
        assert!(error.reason.contains(reason), "{text}: {error}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{text}: {error}");
    }
}

#[test]
fn growth_is_bounded() {
    assert!(parse(&"a ".repeat(MAX_LENGTH)).expect_err("long").reason.contains("longer"));
    assert!(parse(&"(".repeat(MAX_DEPTH + 1)).expect_err("deep").reason.contains("deeper"));
    assert!(parse(&"not ".repeat(MAX_DEPTH + 1)).expect_err("deep").reason.contains("deeper"));
    assert!(parse(&"a ".repeat(MAX_TERMS + 1)).expect_err("many").reason.contains("terms"));
    assert!(parse(&"a ".repeat(MAX_TERMS)).is_ok());
}

fn scalar(kind: Option<FieldKind>) -> BoxedStrategy<Scalar> {
    match kind {
        Some(FieldKind::Ip) => prop_oneof![
            any::<std::net::Ipv4Addr>().prop_map(Into::into),
            any::<std::net::Ipv6Addr>().prop_map(Into::into)
        ]
        .prop_map(Scalar::Ip)
        .boxed(),
        Some(FieldKind::Long) => any::<i64>().prop_map(Scalar::Long).boxed(),
        Some(FieldKind::Double) => (-1e9..1e9).prop_map(Scalar::Double).boxed(),
        Some(FieldKind::Bool) => any::<bool>().prop_map(Scalar::Bool).boxed(),
        Some(FieldKind::Date) => any::<i64>().prop_map(|at| Scalar::Date(Timestamp::from_micros(at))).boxed(),
        _ => "\\PC{0,8}|[\n\t\"\\\\*]{1,3}".prop_map(Scalar::Text).boxed(),
    }
}

fn form(wild: bool) -> impl Strategy<Value = Wildcard> {
    prop::collection::vec(
        prop_oneof![
            any::<char>().prop_map(Part::Char),
            Just(Part::Many),
            Just(Part::One),
            "[ -~]".prop_map(|c| Part::Char(c.chars().next().unwrap()))
        ],
        1..6,
    )
    .prop_map(Wildcard::new)
    .prop_filter("as wanted", move |form| !form.is_any() && (form.as_literal().is_none() || !wild))
}

fn leaf() -> impl Strategy<Value = Expr> {
    let named = (0..FIELDS.len()).prop_map(|at| FieldRef::path(FIELDS[at].name));
    let field = prop_oneof![4 => named, 1 => Just(FieldRef::path("labels.a")), 1 => "[a-z]{1,4}\\.[a-z\\PC]{1,4}"
        .prop_filter("a name", |name| name.split('.').all(|part| !part.is_empty())).prop_map(|name| FieldRef::path(&name))];
    field.prop_flat_map(|field| {
        let kind = field.kind();
        let one = || scalar(kind);
        let test = match kind {
            Some(FieldKind::Text) => prop_oneof![Just(Test::Exists), form(false).prop_map(Test::Contains)].boxed(),
            Some(FieldKind::Bool) => prop_oneof![Just(Test::Exists), one().prop_map(Test::Is)].boxed(),
            _ => {
                let range = prop_oneof![
                    one().prop_map(|low| Test::Range(Bound::With(low), Bound::Open)),
                    one().prop_map(|low| Test::Range(Bound::Without(low), Bound::Open)),
                    one().prop_map(|high| Test::Range(Bound::Open, Bound::Without(high))),
                    (one(), one()).prop_map(|(low, high)| Test::Range(Bound::With(low), Bound::With(high))),
                ];
                let wild = form(true).prop_map(Test::Like);
                let texts = matches!(kind, None | Some(FieldKind::Keyword | FieldKind::Ip | FieldKind::Json));
                let like = if texts { wild.boxed() } else { Just(Test::Exists).boxed() };
                prop_oneof![Just(Test::Exists), one().prop_map(Test::Is), range, like].boxed()
            }
        };
        test.prop_map(move |test| Expr::Field(field.clone(), test))
    })
}

pub(super) fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![6 => leaf(), 1 => form(false).prop_map(Expr::Text)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::and),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::or),
            inner.prop_map(Expr::negate),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_back_is_read_again(expr in expr()) {
        let text = expr.to_string();
        prop_assert_eq!(parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?, expr, "{}", text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[a-z:.()\\[\\]\"\\\\*<>=! ]{0,40}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.column >= 1 && error.column <= text.chars().count() + 1);
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_never_panic(words in prop::collection::vec(
        prop::sample::select(vec!["and", "or", "not", "(", ")", "user.name", ":", "[", "]", "to", "*", "\"", "x", ">=", "1", "source.ip"]), 0..24))
    {
        let _ = parse(&words.join(" "));
        let _ = parse(&words.concat());
    }
}
