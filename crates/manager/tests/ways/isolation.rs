//! RS3 from Deep Security: its events go to a topic, from there to a queue, and an instance whose malware could not be cleaned
//! is isolated; one that was cleaned is left alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::queue::{given, until};
use super::world::{Simulator, World, on};

/// Two events of our own after the vendor's documentation: one was cleaned, of the other the cleaning failed. The instances'
/// names are put in.
const MALWARE: &str = include_str!("deep_security_malware.json");

/// Topic, queue and subscription, and two instances with a group of their own, by interface: the simulator mixes groups of an
/// instance with those of its interfaces.
const SETUP: &str = "
sns, sqs, ec2 = client('sns'), client('sqs'), client('ec2')
topic = sns.create_topic(Name='deep-security')['TopicArn']
queue = sqs.create_queue(QueueName='deep-security', Attributes={'VisibilityTimeout': '5'})['QueueUrl']
arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=['QueueArn'])['Attributes']['QueueArn']
sns.subscribe(TopicArn=topic, Protocol='sqs', Endpoint=arn)
vpc = ec2.describe_vpcs()['Vpcs'][0]['VpcId']
subnet = ec2.describe_subnets(Filters=[dict(Name='vpc-id', Values=[vpc])])['Subnets'][0]['SubnetId']
group = ec2.create_security_group(GroupName='shop', Description='shop', VpcId=vpc)['GroupId']
image = ec2.describe_images(Owners=['amazon'])['Images'][0]['ImageId']
interface = dict(DeviceIndex=0, SubnetId=subnet, Groups=[group])
made = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, NetworkInterfaces=[interface])['Instances']
print(json.dumps(dict(topic=topic, queue=queue, instances=[one['InstanceId'] for one in made])))
";

/// By instance: the state, the tags, and the groups of each interface by their names.
const SEE: &str = "
ec2, seen = client('ec2'), {}
for one in [one for all in ec2.describe_instances()['Reservations'] for one in all['Instances']]:
    by = [dict(Name='attachment.instance-id', Values=[one['InstanceId']])]
    interfaces = ec2.describe_network_interfaces(Filters=by)['NetworkInterfaces']
    seen[one['InstanceId']] = dict(
        state=one['State']['Name'],
        tags=sorted([tag['Key'], tag['Value']] for tag in one.get('Tags', [])),
        groups={at['NetworkInterfaceId']: sorted(group['GroupName'] for group in at['Groups']) for at in interfaces})
print(json.dumps(seen))
";

fn see(simulator: &Simulator) -> Value {
    serde_json::from_str(&simulator.python(SEE, &BTreeMap::new())).unwrap()
}

/// The groups of all interfaces of an instance.
fn groups(seen: &Value, instance: &str) -> Vec<Value> {
    let all = seen[instance]["groups"].as_object().unwrap_or_else(|| panic!("{instance}: {seen}"));
    all.values().flat_map(|names| names.as_array().unwrap().clone()).collect()
}

pub fn cleaning_failed() {
    let Some(simulator) = Simulator::start() else { return };
    let made: Value = serde_json::from_str(&simulator.python(SETUP, &BTreeMap::new())).unwrap();
    let text = |at: &Value| at.as_str().unwrap().to_owned();
    let (topic, queue) = (text(&made["topic"]), text(&made["queue"]));
    let (cleaned, infected) = (text(&made["instances"][0]), text(&made["instances"][1]));
    let settings = format!(
        "[cloud.accounts.prod]\nregion = \"ap-northeast-1\"\nendpoint_url = \"{}\"\naccount_id = \"123456789012\"\n\
         [[ingest.sqs]]\nname = \"deep-security\"\nqueue = \"{queue}\"\naccount = \"prod\"\n",
        simulator.url
    );
    on(async {
        let world = World::start(&settings).await;
        world.switch_on("isolate-when-cleaning-failed").await;
        let before = see(&simulator);
        assert_eq!((groups(&before, &cleaned), groups(&before, &infected)), (vec![json!("shop")], vec![json!("shop")]));
        let message = MALWARE.replace("CLEANED", &cleaned).replace("INFECTED", &infected);
        let publish = "client('sns').publish(TopicArn=given['topic'], Message=given['message'])";
        simulator.python(publish, &given(&[("topic", &topic), ("message", &message)]));

        let alerts = world.find("event.kind:alert AND rule.id:finding-malware-stays", 1).await;
        assert_eq!(alerts[0]["cloud"]["instance"]["id"], json!(infected));
        assert_eq!(alerts[0]["sakimori"]["finding"]["result"], json!("clean_failed"));
        let isolated = || (groups(&see(&simulator), &infected) == [json!("sakimori-isolation")]).then_some(());
        until("the instance is not isolated", isolated).await;
        let id = world.execution("isolate-when-cleaning-failed", "done").await;
        let during = see(&simulator);
        assert_eq!(during[&cleaned], before[&cleaned], "what was cleaned is left alone");
        let tags = during[&infected]["tags"].as_array().unwrap();
        assert!(tags.iter().any(|tag| tag[0].as_str().unwrap().starts_with("sakimori:groups:")), "{tags:?}");
        assert_eq!(world.events("event.kind:alert AND rule.id:finding-malware-stays").await.len(), 1);

        let undo = world.url(&format!("/api/v1/executions/{id}/undo"));
        let answer = world.client.post(undo).bearer_auth(&world.token).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        assert_eq!(world.execution("isolate-when-cleaning-failed", "undone").await, id);
        assert_eq!(see(&simulator), before, "as before, field by field");
    });
}
