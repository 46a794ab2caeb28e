//! Amazon SNS by the simulator: a topic with a queue behind it, which is read by the queue's own interface.

use sakimori_cloud::aws::Account;

use super::site::{Site, channel, simulator};

const NAME: &str = "topic::a_topic_gets_the_words";
/// Marks this test's own child, which has credentials for the simulator in its environment.
const CHILD: &str = "SAKIMORI_TOPIC_CHILD";

#[test]
fn a_topic_gets_the_words() {
    if std::env::var_os(CHILD).is_none() {
        // Credentials come from the environment, which a process cannot change safely for itself.
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1");
        let out = own.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let Some(simulator) = simulator(NAME) else { return };
    sakimori_runtime::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::new();
    let call = |service: &str, form: &[(&str, &str)]| {
        let scope = format!("Credential=test/20260101/us-east-1/{service}/aws4_request");
        let text: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace(':', "%3A").replace('/', "%2F")))
            .collect();
        let request = client
            .post(&simulator.url)
            .header("Authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(text.join("&"));
        runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
    };
    let inside = |text: &str, tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("{tag}: {text}"));
        rest.split_once(&format!("</{tag}>")).unwrap().0.to_owned()
    };
    let made = call("sns", &[("Action", "CreateTopic"), ("Name", "alerts"), ("Version", "2010-03-31")]);
    let topic = inside(&made, "TopicArn");
    let made = call("sqs", &[("Action", "CreateQueue"), ("QueueName", "q"), ("Version", "2012-11-05")]);
    let queue = inside(&made, "QueueUrl");
    let arn = topic.replace(":sns:", ":sqs:").replace(":alerts", ":q");
    let subscribe = [
        ("Action", "Subscribe"),
        ("TopicArn", &topic),
        ("Protocol", "sqs"),
        ("Endpoint", &arn),
        ("Version", "2010-03-31"),
    ];
    call("sns", &subscribe);
    let dir = tempfile::tempdir().unwrap();
    let account =
        Account { region: "us-east-1".into(), endpoint_url: Some(simulator.url.clone()), ..Account::default() };
    let mut site = Site::start_with(dir.path(), vec![channel("sns", "", &[("topic", &topic)])], |config| {
        config.cloud.accounts.insert("test".into(), account);
    });
    let message = site.told();
    assert!(!message.reference.is_empty(), "SNS's own id");
    let got = call("sqs", &[("Action", "ReceiveMessage"), ("QueueUrl", &queue), ("Version", "2012-11-05")]);
    assert!(got.contains("Look at it.") && got.contains("192.0.2.7") && got.contains("brute force"), "{got}");
    site.stop();
}
