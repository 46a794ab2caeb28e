//! Findings out: to Security Hub and to a bus of EventBridge, of the simulator and of the strict fake beside it, and read there by
//! AWS's own SDK for Python.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sakimori_cloud::aws::Account;
use sakimori_model::ActionState;
use sakimori_store::control::alerts::{self, Note, Status};
use sakimori_store::control::{DEFAULT_TENANT, Scope, actions};
use serde_json::{Value, json};

use super::site::{Simulator, Site, channel, listens, port, simulator};

/// The simulator, the fake before its Security Hub, and the second reader.
struct Cloud {
    simulator: Simulator,
    fake: Child,
    fake_url: String,
    python: PathBuf,
    dir: tempfile::TempDir,
}

impl Cloud {
    fn start(test: &str) -> Option<Self> {
        let simulator = simulator(test)?;
        let python = PathBuf::from(std::env::var_os("SAKIMORI_MOTO").unwrap()).with_file_name("python3");
        let port = port();
        let program = "../../tools/aws-fake.py";
        let mut command = Command::new(&python);
        command.args([program, &port.to_string(), simulator.url.trim_start_matches("http://")]);
        let fake = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        listens(port);
        let dir = tempfile::tempdir().unwrap();
        let secrets = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n";
        std::fs::write(dir.path().join("credentials"), secrets).unwrap();
        Some(Self { simulator, fake, fake_url: format!("http://127.0.0.1:{port}"), python, dir })
    }

    /// A manager with a channel of this kind.
    fn site(&self, kind: &str, settings: &[(&str, &str)]) -> Site {
        sakimori_runtime::http::install_crypto();
        let account = Account {
            region: "us-east-1".into(),
            endpoint_url: Some(self.simulator.url.clone()),
            endpoints: [("securityhub".to_owned(), self.fake_url.clone())].into(),
            credentials_file: Some(self.dir.path().join("credentials")),
            account_id: Some("123456789012".into()),
            ..Account::default()
        };
        Site::start_with(self.dir.path(), vec![channel(kind, "", settings)], |config| {
            config.cloud.accounts.insert("test".into(), account);
        })
    }

    /// Lines of Python that print JSON.
    fn python(&self, lines: &str) -> Value {
        let head = "import boto3, json, sys\ndef client(service, url=sys.argv[1]):\n    return boto3.client(service, \
                    region_name='us-east-1', endpoint_url=url, aws_access_key_id='r', aws_secret_access_key='r')\n";
        let mut command = Command::new(&self.python);
        let out = command.arg("-c").arg(format!("{head}{lines}")).args([&self.simulator.url, &self.fake_url]).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn findings(&self) -> Vec<Value> {
        let all = self
            .python("print(json.dumps(client('securityhub', sys.argv[2]).get_findings()['Findings'], default=str))");
        all.as_array().unwrap().clone()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.fake.kill();
        let _ = self.fake.wait();
    }
}

/// Waits until an action has nothing to tell; why.
fn nothing_to_tell(site: &Site, id: &str) -> String {
    site.until("the action is over", || {
        let scope = Scope::One(DEFAULT_TENANT.into());
        let job = site.block_on(actions::get(site.shared().control.read(), &scope, id)).ok()?;
        assert_ne!(job.action.state, ActionState::Done, "it was told");
        (job.action.state == ActionState::NoEffect).then(|| job.action.reason.unwrap())
    })
}

#[test]
fn an_alert_is_one_finding_of_security_hub_and_resolved_when_it_is_closed() {
    let Some(cloud) = Cloud::start("findings::security_hub") else { return };
    let mut site = cloud.site("security_hub", &[]);
    let alert = site.alert();
    let message = site.sent(&site.tell(&alert, &[]));
    let id = format!("sakimori/default/{alert}");
    assert_eq!(message.reference, id);
    let [one] = cloud.findings().try_into().unwrap();
    assert_eq!((&one["Id"], &one["Title"]), (&json!(id), &json!("不正なログイン / brute force")));
    assert_eq!((&one["Severity"]["Label"], &one["RecordState"]), (&json!("MEDIUM"), &json!("ACTIVE")));
    assert_eq!(one["ProductFields"]["sakimori/source_ip"], "192.0.2.7");
    assert_eq!(one["GeneratorId"], "sakimori/rule-1");

    // Another playbook tells the same alert: nothing happens.
    let again = nothing_to_tell(&site, &site.tell_by("another", &alert, &[]));
    assert!(again.contains("told there already"), "{again}");
    // What came from there does not go there.
    let theirs = site.alert_of("aws/securityhub");
    let refused = nothing_to_tell(&site, &site.tell(&theirs, &[]));
    assert!(refused.contains("came from there"), "{refused}");
    // What is no alert does not go there either.
    assert!(nothing_to_tell(&site, &site.tell("", &[("text", "hello")])).contains("this is none"));
    assert_eq!(cloud.findings().len(), 1);

    site.close(&alert, &message.id);
    let [one] = cloud.findings().try_into().unwrap();
    assert_eq!((&one["Workflow"]["Status"], &one["Note"]["Text"]), (&json!("RESOLVED"), &json!("a drill")));
    assert_eq!(one["Note"]["UpdatedBy"], "user:ann");

    // Closed here before it is told there: it is resolved as soon as it is told.
    let early = site.alert();
    let note = Note {
        tenant: DEFAULT_TENANT.into(),
        alert: early.clone(),
        status: Status::Closed,
        comment: "known".into(),
        author: "user:bob".into(),
        changed: site.now(),
    };
    site.block_on(async {
        let mut change = site.shared().control.begin().await.unwrap();
        alerts::put(change.connection(), &note).await.unwrap();
        change.commit().await.unwrap();
    });
    let told = site.tell(&early, &[]);
    site.sent(&format!("{told}-closed"));
    let all = cloud.findings();
    let id = format!("sakimori/default/{early}");
    let one = all.iter().find(|one| one["Id"] == json!(id)).unwrap();
    assert_eq!((&one["Workflow"]["Status"], &one["Note"]["Text"]), (&json!("RESOLVED"), &json!("known")));
    assert_eq!(all.len(), 2);
    site.stop();
}

/// A bus, and a rule that sends what we put there to a queue.
const BUS: &str = "
events, sqs = client('events'), client('sqs')
events.create_event_bus(Name='security')
queue = sqs.create_queue(QueueName='seen')['QueueUrl']
arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=['QueueArn'])['Attributes']['QueueArn']
events.put_rule(Name='ours', EventBusName='security', EventPattern=json.dumps({'source': ['sakimori']}))
events.put_targets(Rule='ours', EventBusName='security', Targets=[{'Id': 'q', 'Arn': arn}])
print(json.dumps(queue))
";
/// What is in the queue, each once.
const READ: &str = "
sqs, all = client('sqs'), []
queue = sqs.get_queue_url(QueueName='seen')['QueueUrl']
while True:
    found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get('Messages', [])
    if not found:
        break
    for one in found:
        all.append(json.loads(one['Body']))
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=one['ReceiptHandle'])
print(json.dumps(all))
";

#[test]
fn an_alert_is_one_event_on_a_bus_and_another_when_it_is_closed() {
    let Some(cloud) = Cloud::start("findings::event_bridge") else { return };
    cloud.python(BUS);
    let mut site = cloud.site("event_bridge", &[("bus", "security")]);
    let alert = site.alert();
    let message = site.sent(&site.tell(&alert, &[]));
    assert_eq!(message.reference, alert);
    assert!(nothing_to_tell(&site, &site.tell_by("another", &alert, &[])).contains("told there already"));
    let [one] = <[Value; 1]>::try_from(cloud.python(READ).as_array().unwrap().clone()).unwrap();
    assert_eq!((&one["source"], &one["detail-type"]), (&json!("sakimori"), &json!("Sakimori Alert")));
    let detail = &one["detail"];
    assert_eq!((&detail["id"], &detail["status"], &detail["form"]), (&json!(alert), &json!("open"), &json!(1)));
    assert_eq!(detail["event"]["sakimori"]["alert"]["id"], json!(alert));
    assert_eq!(detail["event"]["source"]["ip"], "192.0.2.7");
    assert_eq!(detail["event"]["rule"]["name"], "不正なログイン / brute force");

    site.close(&alert, &message.id);
    let [one] = <[Value; 1]>::try_from(cloud.python(READ).as_array().unwrap().clone()).unwrap();
    assert_eq!(one["detail-type"], "Sakimori Alert Closed");
    let wanted = json!({"form": 1, "id": alert, "status": "closed", "by": "user:ann", "comment": "a drill"});
    assert_eq!(one["detail"], wanted);

    // What proves other channels once a day would be no finding: it is not even asked for.
    site.pass(25 * 3_600);
    site.block_on(sakimori_manager::jobs::proof::round(site.shared())).unwrap();
    let about = actions::Filter { target: Some("ops".into()), ..actions::Filter::default() };
    let asked = site.block_on(actions::list(site.shared().control.read(), &Scope::All, &about, None, 9)).unwrap();
    assert!(asked.iter().all(|job| !job.action.order.cause.alert.is_empty()), "{asked:#?}");

    // Two of which a crash came between the call and its record are at most one marked repeat.
    let other = site.alert();
    let id = site.tell(&other, &[]);
    site.until("it is made", || site.message(&id));
    site.crash();
    site.up();
    site.sent(&id);
    let told = cloud.python(READ);
    let told = told.as_array().unwrap();
    let marks: Vec<bool> = told.iter().map(|one| one["detail"]["repeat"] == json!(true)).collect();
    assert!(matches!(marks.as_slice(), [_] | [false, true]), "{told:#?}");
    assert!(told.iter().all(|one| one["detail"]["id"] == json!(other)));
    site.stop();
}
