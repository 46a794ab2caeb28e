//! `bucket_close` and `bucket_deny`.

use sakimori_respond::actions::{bucket_close, bucket_deny};
use sakimori_respond::ports::Look;
use serde_json::{Value, json};

use crate::stage::{Stage, nothing, order, ready, remark, whole_life};

const POLICY: &str = r#"{ "Version": "2012-10-17",
  "Statement": { "Sid": "own", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*" } }"#;

pub fn scene(stage: &Stage) {
    stage.make(json!([
        ["s3", "create_bucket", { "Bucket": "photos" }],
        ["s3", "put_object", { "Bucket": "photos", "Key": "a.jpg", "Body": "a picture" }],
    ]));
}

fn read(stage: &Stage) -> Value {
    Value::Array(stage.ask(json!([
        ["s3", "get_public_access_block", { "Bucket": "photos" }],
        ["s3", "get_bucket_policy", { "Bucket": "photos" }],
        ["s3", "get_bucket_acl", { "Bucket": "photos" }],
        ["s3", "get_object", { "Bucket": "photos", "Key": "a.jpg" }],
    ])))
}

fn put_policy(stage: &Stage, policy: &str) {
    stage.make(json!([["s3", "put_bucket_policy", { "Bucket": "photos", "Policy": policy }]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_closed_and_opened_as_it_was() {
    let Some(stage) = Stage::start() else { return };
    scene(&stage);
    let effects = stage.effects().await;
    let (close, of) = (&*effects[bucket_close::ID], order(bucket_close::ID, bucket_close::KIND, "photos", &[]));
    let see = || read(&stage);
    // With no settings at all, and with some of the four.
    let during = whole_life(close, &of, &see).await;
    let flags = &during[0]["PublicAccessBlockConfiguration"];
    assert!(flags.as_object().unwrap().values().all(|flag| flag == true), "{flags}");
    let some = json!({ "BlockPublicAcls": true, "IgnorePublicAcls": false, "BlockPublicPolicy": true,
                       "RestrictPublicBuckets": false });
    let put =
        json!([["s3", "put_public_access_block", { "Bucket": "photos", "PublicAccessBlockConfiguration": some }]]);
    stage.make(put.clone());
    whole_life(close, &of, &see).await;
    assert_eq!(read(&stage)[0]["PublicAccessBlockConfiguration"], some);

    // Closed already; somebody changed it meanwhile; gone meanwhile; never there.
    let (former, _) = ready(close, &of).await;
    close.apply(&of, &former).await.unwrap();
    assert!(nothing(close, &of).await.contains("closed to the public already"));
    let other = json!({ "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true,
                        "RestrictPublicBuckets": false });
    stage.make(
        json!([["s3", "put_public_access_block", { "Bucket": "photos", "PublicAccessBlockConfiguration": other }]]),
    );
    let kept = remark(close.undo(&of, &former).await.unwrap()).unwrap();
    assert!(kept.contains("that is kept"), "{kept}");
    assert_eq!(read(&stage)[0]["PublicAccessBlockConfiguration"], other);
    stage.make(json!([["s3", "delete_object", { "Bucket": "photos", "Key": "a.jpg" }],
                      ["s3", "delete_bucket", { "Bucket": "photos" }]]));
    assert!(remark(close.undo(&of, &former).await.unwrap()).unwrap().contains("deleted meanwhile"));
    assert!(nothing(close, &of).await.contains("no bucket photos"));
    assert!(!close.apply(&of, &former).await.unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_denied_and_its_policy_comes_back_byte_for_byte() {
    let Some(stage) = Stage::start() else { return };
    scene(&stage);
    let effects = stage.effects().await;
    let deny = &*effects[bucket_deny::ID];
    let inputs = [(bucket_deny::DENY, "all"), (bucket_deny::ADMINISTRATORS, "role/admin")];
    let of = order(bucket_deny::ID, bucket_close::KIND, "photos", &inputs);
    let see = || read(&stage);
    let during = whole_life(deny, &of, &see).await;
    assert!(during[1]["Policy"].as_str().unwrap().contains("role/*/admin"));
    put_policy(&stage, POLICY);
    let during = whole_life(deny, &of, &see).await;
    let policy: Value = serde_json::from_str(during[1]["Policy"].as_str().unwrap()).unwrap();
    assert_eq!(
        (policy["Statement"][0]["Sid"].as_str(), &policy["Statement"][1]["Effect"]),
        (Some("own"), &json!("Deny"))
    );
    assert_eq!(read(&stage)[1]["Policy"], POLICY);

    // Changed between the look and the effect, and between the effect and its end: both changes stay.
    let (former, _) = ready(deny, &of).await;
    put_policy(&stage, &POLICY.replace("own", "other"));
    deny.apply(&of, &former).await.unwrap();
    assert_eq!(deny.verify(&of, &former).await.unwrap(), None);
    let kept = remark(deny.undo(&of, &former).await.unwrap()).unwrap();
    assert!(kept.contains("that is kept"), "{kept}");
    let now: Value = serde_json::from_str(read(&stage)[1]["Policy"].as_str().unwrap()).unwrap();
    assert_eq!((now["Statement"].as_array().unwrap().len(), &now["Statement"][0]["Sid"]), (1, &json!("other")));

    // What would not fit is refused before anything is done.
    let large = POLICY.replace("own", &"x".repeat(bucket_deny::MAX_POLICY - POLICY.len()));
    put_policy(&stage, &large);
    match deny.look(&of).await.unwrap() {
        Look::Refused(why) => assert!(why.contains("S3 takes"), "{why}"),
        other => panic!("{other:?}"),
    }
    let wrong = order(bucket_deny::ID, bucket_close::KIND, "photos", &[(bucket_deny::DENY, "some")]);
    assert!(deny.look(&wrong).await.unwrap_err().to_string().contains("read or all"));
    let missing = order(bucket_deny::ID, bucket_close::KIND, "nowhere", &[]);
    assert!(nothing(deny, &missing).await.contains("no bucket nowhere"));
}
