//! Queues: from a topic of the simulator to its WAF, and once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::world::{PATIENCE, Simulator, World, on};

/// Samples of our own after the vendors' documentation.
const GUARDDUTY: &str = include_str!("guardduty.json");
const DEEP_SECURITY: &str = include_str!("deep_security.json");

/// Makes topic, queue (which gives a message out again soon, where a stop cut a poll off), subscription, IP sets and a web ACL whose rule blocks them; gives topic and queue.
const SETUP: &str = "
sns, sqs, waf = client('sns'), client('sqs'), client('wafv2')
topic = sns.create_topic(Name='findings')['TopicArn']
queue = sqs.create_queue(QueueName='findings', Attributes={'VisibilityTimeout': '5'})['QueueUrl']
arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=['QueueArn'])['Attributes']['QueueArn']
sns.subscribe(TopicArn=topic, Protocol='sqs', Endpoint=arn)
see = dict(SampledRequestsEnabled=True, CloudWatchMetricsEnabled=True, MetricName='m')
rules = []
for at, (end, version) in enumerate([('v4', 'IPV4'), ('v6', 'IPV6')]):
    made = waf.create_ip_set(Name='blocked-' + end, Scope='REGIONAL', IPAddressVersion=version, Addresses=[])
    statement = {'IPSetReferenceStatement': {'ARN': made['Summary']['ARN']}}
    rules.append(dict(Name=end, Priority=at, Statement=statement, Action={'Block': {}}, VisibilityConfig=see))
waf.create_web_acl(Name='edge', Scope='REGIONAL', DefaultAction={'Allow': {}}, VisibilityConfig=see, Rules=rules)
print(topic, queue)
";

const READ: &str = "
waf = client('wafv2')
for one in waf.list_ip_sets(Scope='REGIONAL')['IPSets']:
    found = waf.get_ip_set(Name=one['Name'], Scope='REGIONAL', Id=one['Id'])
    print('\\n'.join(found['IPSet']['Addresses']))
";

/// How many messages a queue has, those that are out included.
const LEFT: &str = "
names = ['ApproximateNumberOfMessages', 'ApproximateNumberOfMessagesNotVisible']
found = client('sqs').get_queue_attributes(QueueUrl=given['queue'], AttributeNames=names)['Attributes']
print(sum(int(found[name]) for name in names))
";

fn settings(simulator: &Simulator, queue: &str) -> String {
    let url = &simulator.url;
    format!(
        "[cloud.waf]\nregion = \"ap-northeast-1\"\nscope = \"regional\"\nip_set = \"blocked\"\nendpoint_url = \"{url}\"\n\
         [cloud.accounts.prod]\nregion = \"ap-northeast-1\"\nendpoint_url = \"{url}\"\n\
         [[ingest.sqs]]\nname = \"findings\"\nqueue = \"{queue}\"\naccount = \"prod\"\n"
    )
}

pub fn given<'a>(pairs: &[(&'a str, &str)]) -> BTreeMap<&'a str, String> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn set_up(simulator: &Simulator) -> (String, String) {
    let made = simulator.python(SETUP, &BTreeMap::new());
    let (topic, queue) = made.split_once(' ').unwrap();
    (topic.to_owned(), queue.to_owned())
}

pub async fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub fn findings() {
    let Some(simulator) = Simulator::start() else { return };
    let (topic, queue) = set_up(&simulator);
    on(async {
        let world = World::start(&settings(&simulator, &queue)).await;
        world.switch_on("block-finding-in-waf").await;
        let publish = "client('sns').publish(TopicArn=given['topic'], Message=given['message'])";
        for message in [GUARDDUTY, DEEP_SECURITY] {
            simulator.python(publish, &given(&[("topic", &topic), ("message", message)]));
        }
        let alerts = world.find("event.kind:alert AND rule.id:finding-intrusion", 2).await;
        let of = |path: &[&str]| -> BTreeSet<String> {
            let one = |alert: &Value| path.iter().fold(alert, |at, name| &at[*name]).as_str().unwrap_or("?").to_owned();
            alerts.iter().map(one).collect()
        };
        let set = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(of(&["source", "ip"]), set(&["203.0.113.77", "203.0.113.88"]));
        assert_eq!(of(&["cloud", "instance", "id"]), set(&["i-0abc000000000001a"]));
        assert_eq!(of(&["cloud", "account", "id"]), set(&["444455556666"]));
        assert_eq!(of(&["host", "name"]), set(&["shop-web-1"]));
        // What a second reader sees in the WAF.
        let wanted = set(&["203.0.113.77/32", "203.0.113.88/32"]);
        let holds = || {
            let read: BTreeSet<String> =
                simulator.python(READ, &BTreeMap::new()).split_whitespace().map(str::to_owned).collect();
            (read == wanted).then_some(())
        };
        until("the addresses are not in the WAF", holds).await;
        let empty = || (simulator.python(LEFT, &given(&[("queue", &queue)])) == "0").then_some(());
        until("the messages are still in the queue", empty).await;
    });
}

pub fn once() {
    let Some(simulator) = Simulator::start() else { return };
    let (_, queue) = set_up(&simulator);
    let send = "client('sqs').send_message(QueueUrl=given['queue'], MessageBody=given['message'])";
    let say = |message: &Value| simulator.python(send, &given(&[("queue", &queue), ("message", &message.to_string())]));
    let drained = || (simulator.python(LEFT, &given(&[("queue", &queue)])) == "0").then_some(());
    on(async {
        let mut world = World::start(&settings(&simulator, &queue)).await;
        let finding: Value = serde_json::from_str(GUARDDUTY).unwrap();
        // The same occurrence three times: twice as it is, once in an envelope.
        let envelope = json!({"Type": "Notification", "MessageId": "m-1", "TopicArn": "t", "Timestamp": "now",
            "Message": finding.to_string()});
        for message in [&finding, &finding, &envelope] {
            say(message);
        }
        say(&json!({"nobody": "knows this"}));
        until("the messages are still in the queue", drained).await;
        assert_eq!(world.find("event.dataset:aws.guardduty", 1).await.len(), 1);
        let dead = world.find("event.dataset:sakimori.dead_letter", 1).await;
        assert!(dead[0]["error"]["message"].as_str().unwrap().contains("no log source"), "{dead:?}");
        assert_eq!(dead[0]["event"]["original"], json!(r#"{"nobody":"knows this"}"#));
        assert_eq!(world.find("event.kind:alert AND rule.id:finding-intrusion", 1).await.len(), 1);

        // What was known before a stop is known after it: in control state, and in the journal.
        for _ in 0..2 {
            world.again().await;
            say(&finding);
            until("the message is still in the queue", drained).await;
            assert_eq!(world.find("event.dataset:aws.guardduty", 1).await.len(), 1);
        }

        // Updated, and it says the same: an event, no second alert. Then it says more.
        let mut updated = finding.clone();
        updated["detail"]["updatedAt"] = json!("2026-11-24T10:20:00.000Z");
        updated["detail"]["service"]["count"] = json!(7);
        say(&updated);
        let events = world.find("event.dataset:aws.guardduty", 2).await;
        assert_eq!(events.iter().filter(|event| event["sakimori"]["repeated"] == json!(true)).count(), 1);
        let mut worse = updated.clone();
        worse["detail"]["updatedAt"] = json!("2026-11-24T10:30:00.000Z");
        worse["detail"]["severity"] = json!(9.5);
        say(&worse);
        world.find("event.dataset:aws.guardduty", 3).await;
        let alerts = world.find("event.kind:alert AND rule.id:finding-intrusion", 2).await;
        assert_eq!(alerts.len(), 2, "{alerts:#?}");
        let balance = world.get("/api/v1/events/balance").await;
        let row = balance["items"].as_array();
        let row = row.unwrap_or_else(|| panic!("{balance}")).iter().find(|row| row["origin"] == json!("way:findings"));
        let row = row.unwrap_or_else(|| panic!("{balance}"));
        assert_eq!((&row["arrived"], &row["stored"], &row["balanced"]), (&json!(4), &json!(4), &json!(true)), "{row}");
    });
}
