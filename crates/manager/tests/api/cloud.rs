//! Cloud accounts over the API: what is configured, and what the manager's role may do and lacks. AWS is played by a socket that
//! answers two questions.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use sakimori_cloud::aws::{Account, waf::WafConfig};
use sakimori_runtime::SystemClock;
use serde_json::{Value, json};

use super::support::World;

const WHO: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
    <Arn>arn:aws:iam::123456789012:user/ops</Arn><UserId>x</UserId><Account>123456789012</Account>\
    </GetCallerIdentityResult></GetCallerIdentityResponse>";
const MAY: &str = "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
    <SimulatePrincipalPolicyResult><EvaluationResults><member><EvalActionName>s3:GetBucketPublicAccessBlock</EvalActionName>\
    <EvalDecision>allowed</EvalDecision></member><member><EvalActionName>s3:PutBucketPublicAccessBlock</EvalActionName>\
    <EvalDecision>explicitDeny</EvalDecision></member></EvaluationResults><IsTruncated>false</IsTruncated>\
    </SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>";

/// Answers until the test is over.
fn aws() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || listener.incoming().flatten().for_each(|stream| drop(answer(stream)));
    std::thread::Builder::new().name("aws".into()).spawn(serve).unwrap();
    url
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut text, mut part) = (String::new(), [0; 4096]);
    while !text.contains("Action=") {
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    let body = if text.contains("Action=GetCallerIdentity") { WHO } else { MAY };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_listed_and_what_their_role_lacks_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, "[default]\naws_access_key_id = AKIA\naws_secret_access_key = hidden\n").unwrap();
    let account = Account {
        region: "eu-west-1".into(),
        endpoint_url: Some(aws()),
        credentials_file: Some(file),
        account_id: Some("123456789012".into()),
        ..Account::default()
    };
    let world = World::start_with(Arc::new(SystemClock), |config| {
        config.cloud.waf = Some(WafConfig { account: account.clone(), ..WafConfig::default() });
        config.cloud.accounts.insert("shop".into(), account);
    })
    .await;
    let listed = world.ask("GET", "/api/v1/cloud/accounts", Value::Null).await;
    let names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop", "waf"]);
    assert_eq!(listed["items"][1]["actions"], json!(["waf_block"]));
    assert!(!listed.to_string().contains("hidden") && !listed.to_string().contains("credentials"), "{listed}");

    let question = json!({ "account": "shop", "actions": ["bucket_close", "block_address"] });
    let checked = world.ask("POST", "/api/v1/cloud/check", question).await;
    let one = &checked["items"][0];
    assert_eq!((checked["items"].as_array().unwrap().len(), &one["ok"]), (1, &json!(false)));
    assert_eq!(one["caller"], "arn:aws:iam::123456789012:user/ops");
    assert_eq!(
        one["actions"],
        json!([{ "action": "bucket_close", "has": ["s3:GetBucketPublicAccessBlock"],
                 "lacks": ["s3:PutBucketPublicAccessBlock"] }])
    );
    for (question, says) in [
        (json!({ "account": "elsewhere" }), "no account elsewhere"),
        (json!({ "actions": ["rm"] }), "no action rm"),
        (json!({ "actions": vec!["bucket_close"; 201] }), "at most 200"),
    ] {
        let refused = world.send("POST", "/api/v1/cloud/check", &world.admin, &question).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(refused.body.to_string().contains(says), "{}", refused.body);
    }
}
