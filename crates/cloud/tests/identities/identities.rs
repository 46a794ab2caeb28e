//! `access_key_deactivate`, `sessions_revoke` and `identity_quarantine`.

use sakimori_respond::actions::{access_key_deactivate, identity, identity_quarantine, sessions_revoke};
use sakimori_respond::ports::Look;
use serde_json::{Value, json};

use crate::stage::{Stage, nothing, order, ready, remark, whole_life};

/// A user and a role, each with an inline policy of the operator's own. Returns the user's access key.
pub fn scene(stage: &Stage) -> String {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "ec2.amazonaws.com" }, "Action": "sts:AssumeRole" }] });
    let own = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*" }] });
    let made = stage.make(json!([
        ["iam", "create_user", { "UserName": "alice", "Path": "/staff/" }],
        ["iam", "create_access_key", { "UserName": "alice" }],
        ["iam", "put_user_policy", { "UserName": "alice", "PolicyName": "own", "PolicyDocument": own.to_string() }],
        ["iam", "create_role", { "RoleName": "deploy", "AssumeRolePolicyDocument": trust.to_string() }],
        ["iam", "put_role_policy", { "RoleName": "deploy", "PolicyName": "own", "PolicyDocument": own.to_string() }],
    ]));
    made[1]["AccessKey"]["AccessKeyId"].as_str().unwrap().to_owned()
}

/// All that these actions could change.
fn read(stage: &Stage) -> Value {
    let names = stage.ask(json!([
        ["iam", "list_user_policies", { "UserName": "alice" }],
        ["iam", "list_role_policies", { "RoleName": "deploy" }],
        ["iam", "list_access_keys", { "UserName": "alice" }],
        ["iam", "get_user", { "UserName": "alice" }],
        ["iam", "get_role", { "RoleName": "deploy" }],
    ]));
    let of =
        |at: usize| names[at]["PolicyNames"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    let users = of(0).map(|name| json!(["iam", "get_user_policy", { "UserName": "alice", "PolicyName": name }]));
    let roles = of(1).map(|name| json!(["iam", "get_role_policy", { "RoleName": "deploy", "PolicyName": name }]));
    let policies = stage.ask(Value::Array(users.chain(roles).collect()));
    json!({ "all": names, "policies": policies })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_sessions_and_identities_are_shut_out_and_let_in_again() {
    let Some(stage) = Stage::start() else { return };
    let key = scene(&stage);
    let effects = stage.effects().await;
    let see = || read(&stage);

    let of_key = order(access_key_deactivate::ID, access_key_deactivate::KIND, &key, &[]);
    let during = whole_life(&*effects[access_key_deactivate::ID], &of_key, &see).await;
    assert_eq!(during["all"][2]["AccessKeyMetadata"][0]["Status"], "Inactive");

    let account = crate::stage::ACCOUNT;
    let names =
        ["user/alice".to_owned(), "role/deploy".to_owned(), format!("arn:aws:sts::{account}:assumed-role/deploy/i-1")];
    for name in &names {
        let quarantine = order(identity_quarantine::ID, identity::KIND, name, &[]);
        let during = whole_life(&*effects[identity_quarantine::ID], &quarantine, &see).await;
        let text = during["policies"].to_string();
        assert!(text.contains("sakimori-quarantine-") && text.contains(r#""Deny""#), "{text}");
        let revoke = order(sessions_revoke::ID, identity::KIND, name, &[]);
        let during = whole_life(&*effects[sessions_revoke::ID], &revoke, &see).await;
        let text = during["policies"].to_string();
        assert!(text.contains("aws:TokenIssueTime") && text.contains("sakimori-revoked-"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_so_already_or_missing_or_our_own_is_left_alone() {
    let Some(stage) = Stage::start() else { return };
    let key = scene(&stage);
    let effects = stage.effects().await;
    let (quarantine, revoke) = (&*effects[identity_quarantine::ID], &*effects[sessions_revoke::ID]);

    for (effect, action) in [(quarantine, identity_quarantine::ID), (revoke, sessions_revoke::ID)] {
        for (name, says) in [("user/mallory", "no user mallory"), ("role/none", "no role none")] {
            let why = nothing(effect, &order(action, identity::KIND, name, &[])).await;
            assert!(why.contains(says), "{why}");
        }
        let wrong = order(action, identity::KIND, "alice", &[]);
        assert!(!effect.look(&wrong).await.unwrap_err().is_transient());
    }
    let deactivate = &*effects[access_key_deactivate::ID];
    let of_key = |key: &str| order(access_key_deactivate::ID, access_key_deactivate::KIND, key, &[]);
    assert!(nothing(deactivate, &of_key("AKIAAAAAAAAAAAAAAAAA")).await.contains("no user"));
    // Not the key with which it is asked.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own");
    std::fs::write(&file, format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = test\n")).unwrap();
    let account = sakimori_cloud::aws::Account { credentials_file: Some(file), ..stage.account() };
    let own = sakimori_cloud::aws::effects(&account).await.unwrap();
    match own[access_key_deactivate::ID].look(&of_key(&key)).await.unwrap() {
        Look::Refused(why) => assert!(why.contains("the manager itself"), "{why}"),
        other => panic!("{other:?}"),
    }
    let (former, _) = ready(deactivate, &of_key(&key)).await;
    deactivate.apply(&of_key(&key), &former).await.unwrap();
    assert!(nothing(deactivate, &of_key(&key)).await.contains("already"));

    // A second quarantine has nothing to do; a second revocation has: there may be newer sessions.
    let first = order(identity_quarantine::ID, identity::KIND, "user/alice", &[]);
    let (former, _) = ready(quarantine, &first).await;
    quarantine.apply(&first, &former).await.unwrap();
    let mut second = first.clone();
    second.id = "another".into();
    assert!(nothing(quarantine, &second).await.contains("in quarantine already"));
    ready(revoke, &order(sessions_revoke::ID, identity::KIND, "user/alice", &[])).await;
    // Its user went away meanwhile: what is not there is denied nothing.
    stage.make(json!([
        ["iam", "delete_access_key", { "UserName": "alice", "AccessKeyId": key }],
        ["iam", "delete_user_policy", { "UserName": "alice", "PolicyName": "own" }],
    ]));
    assert_eq!(remark(quarantine.undo(&first, &former).await.unwrap()), None);
    stage.make(json!([["iam", "delete_user", { "UserName": "alice" }]]));
    assert_eq!(remark(quarantine.undo(&first, &former).await.unwrap()), None);

    // The manager itself is the role of the session as which it acts.
    let mut account = stage.account();
    account.role_arn = Some(format!("arn:aws:iam::{}:role/deploy", crate::stage::ACCOUNT));
    let own = sakimori_cloud::aws::effects(&account).await.unwrap();
    for action in [identity_quarantine::ID, sessions_revoke::ID] {
        match own[action].look(&order(action, identity::KIND, "role/deploy", &[])).await.unwrap() {
            Look::Refused(why) => assert!(why.contains("the manager itself"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
