//! `sakimori cloud check`: as whom the manager acts and what it may do, and what is said where that cannot be asked.

use sakimori_cloud::aws::Account;
use sakimori_cloud::aws::check::check;
use sakimori_respond::actions::{access_key_deactivate, block_address, bucket_close};
use serde_json::json;

use crate::stage::{ACCOUNT, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_lacks_is_listed_for_each_action() {
    let Some(stage) = Stage::start() else { return };
    crate::identities::scene(&stage);
    let role = format!("arn:aws:iam::{ACCOUNT}:role/deploy");
    let account = Account {
        role_arn: Some(role),
        external_id: Some("ours".into()),
        account_id: Some(ACCOUNT.into()),
        ..stage.account()
    };
    stage.set(json!({ "allowed": ["iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "s3:GetBucketPublicAccessBlock",
                                  "s3:PutBucketPublicAccessBlock", "s3:DeleteBucket"] }));
    let actions = [&access_key_deactivate::DESCRIPTOR, &bucket_close::DESCRIPTOR, &block_address::DESCRIPTOR];
    let checked = check(&account, &actions).await.unwrap();
    assert_eq!(checked.caller, format!("arn:aws:sts::{ACCOUNT}:assumed-role/deploy/sakimori"));
    assert_eq!((checked.account.as_str(), &checked.remarks), (ACCOUNT, &Vec::new()));
    assert_eq!(checked.actions.len(), 2, "what runs on hosts needs no right in an account");
    assert_eq!(checked.actions[0].lacks, ["iam:UpdateAccessKey"]);
    assert_eq!((checked.actions[1].has.len(), checked.actions[1].lacks.len()), (2, 0));
    // It is asked about one resource of each kind, as the policy of `sakimori cloud policy` names them.
    let user = format!("arn:aws:iam::{ACCOUNT}:user/sakimori");
    stage.set(json!({ "on": { "iam": user, "s3": "arn:aws:s3:::sakimori" } }));
    assert_eq!(check(&account, &actions).await.unwrap().actions, checked.actions);
    stage.set(json!({ "on": { "s3": "*" } }));
    assert_eq!(check(&account, &actions).await.unwrap().actions[1].has.len(), 0);
    stage.set(json!({ "on": {} }));
    // The session is made once and kept.
    let assumed = stage.wire.calls().iter().filter(|call| call.operation == "AssumeRole").count();
    assert_eq!(assumed, 3, "once for each check");

    // Not allowed to ask, and another account than was thought.
    stage.set(json!({ "simulates": false }));
    let wrong = Account { account_id: Some("111122223333".into()), ..account.clone() };
    let checked = check(&wrong, &actions).await.unwrap();
    let remarks = checked.remarks.join("\n");
    assert!(remarks.contains("account_id says 111122223333") && checked.actions.is_empty(), "{remarks}");
    assert!(remarks.contains("allow it iam:SimulatePrincipalPolicy on itself"), "{remarks}");
    let unusable = Account { region: String::new(), ..account };
    assert!(check(&unusable, &actions).await.unwrap_err().to_string().contains("region is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn single_services_have_endpoints_of_their_own_and_a_proxy_is_asked_for_everything() {
    let Some(stage) = Stage::start() else { return };
    let nowhere = "http://127.0.0.1:9".to_owned();
    // Everything goes nowhere but STS.
    let account = Account {
        endpoint_url: Some(nowhere.clone()),
        endpoints: [("sts".to_owned(), stage.wire.url().to_owned())].into(),
        ..stage.account()
    };
    let checked = check(&account, &[&access_key_deactivate::DESCRIPTOR]).await.unwrap();
    assert_eq!((checked.account.as_str(), checked.actions.len()), (ACCOUNT, 0));
    assert!(checked.remarks[0].contains("could not be asked"), "{:?}", checked.remarks);
    // The endpoint does not exist, and the proxy answers for it.
    let account = Account {
        endpoint_url: Some("http://sts.example.invalid".into()),
        proxy: Some(stage.wire.url().to_owned()),
        ..stage.account()
    };
    assert_eq!(check(&account, &[]).await.unwrap().account, ACCOUNT);
    let unanswered = Account { endpoint_url: Some(nowhere), ..stage.account() };
    let error = check(&unanswered, &[]).await.unwrap_err();
    assert!(error.is_transient() && !error.to_string().contains("test"), "no secret in it: {error}");
}
