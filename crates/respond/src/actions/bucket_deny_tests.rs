use proptest::prelude::*;

use super::*;

fn caller() -> Caller {
    Caller::parse("arn:aws-us-gov:sts::123456789012:assumed-role/sakimori/one").unwrap()
}

fn ours() -> Value {
    statement("photos", "SakimoriA", None, Some("role/admin, user/root-of-b"), &caller()).unwrap()
}

fn former(policy: Option<&str>) -> Former {
    Former { policy: policy.map(str::to_owned), statement: ours() }
}

#[test]
fn the_statement_spares_administrators_and_the_manager_and_keeps_to_the_partition() {
    let text = ours().to_string();
    for arn in ["iam::123456789012:root", "role/sakimori", "role/*/sakimori", "role/admin", "user/root-of-b"] {
        assert!(text.contains(arn), "{arn}: {text}");
    }
    assert!(text.contains("arn:aws-us-gov:s3:::photos/*") && !text.contains("arn:aws:"), "{text}");
    assert!(text.contains("s3:GetObject") && !text.contains("s3:*"), "reading alone unless it is asked for");
    let all = statement("photos", "SakimoriA", Some("all"), None, &caller()).unwrap();
    assert_eq!(all["Action"], "s3:*");
}

#[test]
fn inputs_that_say_nothing_are_refused() {
    assert!(statement("b", "S", Some("write"), None, &caller()).unwrap_err().contains("read or all"));
    assert!(statement("b", "S", None, Some("everybody"), &caller()).unwrap_err().contains("neither"));
    let many = vec!["role/a"; 17].join(",");
    assert!(statement("b", "S", None, Some(&many), &caller()).unwrap_err().contains("at most 16"));
    assert!(Caller::parse("sakimori").is_err());
}

#[test]
fn a_policy_that_was_changed_meanwhile_keeps_the_change() {
    let before = r#"{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow"}]}"#;
    let changed = r#"{"Version":"2012-10-17","Statement":[{"Sid":"B","Effect":"Allow"}]}"#;
    let now = with(Some(changed), &ours()).unwrap();
    let Back::Put { policy, changed: true } = without(Some(&now), &former(Some(before))).unwrap() else {
        panic!("it was changed")
    };
    assert!(same_policy(&policy, changed), "{policy}");
    // And where it went, and where only ours was left.
    assert_eq!(without(None, &former(Some(before))), Ok(Back::Nothing { as_before: false }));
    assert_eq!(without(Some(before), &former(Some(before))), Ok(Back::Nothing { as_before: true }));
    let only = with(None, &ours()).unwrap();
    assert_eq!(without(Some(&only), &former(Some(before))), Ok(Back::Delete));
}

#[test]
fn a_policy_too_large_or_not_readable_is_refused() {
    let sid = "x".repeat(MAX_POLICY);
    let large = json!({ "Statement": { "Sid": sid } }).to_string();
    assert!(with(Some(&large), &ours()).unwrap_err().contains("S3 takes"));
    assert!(with(Some("<xml>"), &ours()).unwrap_err().contains("cannot be read"));
    assert!(without(Some("<xml>"), &former(None)).is_err());
}

proptest! {
    #[test]
    fn in_and_out_again_is_byte_for_byte_what_it_was(
        sids in proptest::collection::vec("[A-Za-z0-9]{1,8}", 1..6),
        single: bool,
        pretty: bool,
    ) {
        let all: Vec<Value> = sids.iter().map(|sid| json!({ "Sid": sid, "Effect": "Allow", "n": sid.len() })).collect();
        let statement = if single { all[0].clone() } else { Value::Array(all) };
        let whole = json!({ "Version": "2008-10-17", "Id": "x", "Statement": statement });
        let before = if pretty { serde_json::to_string_pretty(&whole).unwrap() } else { whole.to_string() };
        let now = with(Some(&before), &ours()).unwrap();
        prop_assert!(holds(Some(&now), &ours()) && !holds(Some(&before), &ours()));
        prop_assert_eq!(&with(Some(&now), &ours()).unwrap(), &now, "put twice is put once");
        let back = without(Some(&now), &former(Some(&before))).unwrap();
        prop_assert_eq!(back, Back::Put { policy: before, changed: false });
    }
}
