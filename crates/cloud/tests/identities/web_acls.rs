//! `waf_rate_rule`, `waf_shape_rule`, and whether a web ACL stands in front of anything.

use std::collections::BTreeSet;

use sakimori_cloud::aws::waf::{WafConfig, WafSets};
use sakimori_respond::actions::{waf_rate_rule, waf_shape_rule, web_acl};
use sakimori_respond::ports::{AddressSet, Effect};
use serde_json::{Value, json};

use crate::stage::{Stage, nothing, order, ready, remark, whole_life};

fn seen(name: &str) -> Value {
    json!({ "SampledRequestsEnabled": true, "CloudWatchMetricsEnabled": false, "MetricName": name })
}

/// IP sets of ours, a web ACL that blocks them with a rule of the operator's own before it, and one that is another's.
/// Returns ARNs of `shop` and `other`.
pub fn scene(stage: &Stage, scope: &str) -> (String, String) {
    let set = |version: &str, name: &str| json!(["wafv2", "create_ip_set", { "Name": name, "Scope": scope, "IPAddressVersion": version, "Addresses": [] }]);
    let sets = stage.make(json!([set("IPV4", "sakimori-blocked-v4"), set("IPV6", "sakimori-blocked-v6")]));
    let rule = |name: &str, priority: i32, arn: &Value, action: &str| {
        json!({ "Name": name, "Priority": priority, "Action": { action: {} }, "VisibilityConfig": seen(name),
                "Statement": { "IPSetReferenceStatement": { "ARN": arn } } })
    };
    let rules = [
        rule("allowed", 3, &sets[0]["Summary"]["ARN"], "Allow"),
        rule("v4", 7, &sets[0]["Summary"]["ARN"], "Block"),
        rule("v6", 9, &sets[1]["Summary"]["ARN"], "Block"),
    ];
    let acl = |name: &str, rules: Value| {
        json!(["wafv2", "create_web_acl", { "Name": name, "Scope": scope, "Description": "the shop's",
            "DefaultAction": { "Allow": { "CustomRequestHandling": { "InsertHeaders": [{ "Name": "x", "Value": "y" }] } } },
            "VisibilityConfig": seen(name), "Rules": rules, "TokenDomains": ["shop.example"],
            "CustomResponseBodies": { "no": { "ContentType": "TEXT_PLAIN", "Content": "no" } } }])
    };
    let made = stage.make(json!([acl("shop", json!(rules)), acl("other", json!([]))]));
    let arn = |at: usize| made[at]["Summary"]["ARN"].as_str().unwrap().to_owned();
    (arn(0), arn(1))
}

/// Every web ACL of a scope without its lock token, which each change makes new.
pub fn read(stage: &Stage, scope: &str) -> Value {
    let all = stage.ask(json!([["wafv2", "list_web_acls", { "Scope": scope }]]));
    let gets = all[0]["WebACLs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!(["wafv2", "get_web_acl", { "Scope": scope, "Name": one["Name"], "Id": one["Id"] }]));
    let acls = stage.ask(Value::Array(gets.collect()));
    Value::Array(acls.iter().map(|one| one["WebACL"].clone()).collect())
}

fn stands(stage: &Stage, arn: &str, kind: &str) {
    stage.set(
        json!({ "resources": { arn: { kind: ["arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/app/a/b"] } } }),
    );
}

fn names(acl: &Value) -> Vec<String> {
    acl["Rules"].as_array().unwrap().iter().map(|rule| rule["Name"].as_str().unwrap().to_owned()).collect()
}

const RATE: [(&str, &str); 3] = [("limit", "500"), ("path", "/login"), ("client", "forwarded")];
const SHAPE: [(&str, &str); 2] = [("part", "header:User-Agent"), ("text", "${jndi:")];

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_and_go_and_leave_the_web_acl_as_it_was() {
    let Some(stage) = Stage::start() else { return };
    for scope in ["REGIONAL", "CLOUDFRONT"] {
        let (shop, _) = scene(&stage, scope);
        stands(&stage, &shop, "APPLICATION_LOAD_BALANCER");
        let effects = stage.effects().await;
        let see = || read(&stage, scope);
        let scope = scope.to_lowercase();
        let with = |inputs: &[(&'static str, &'static str)]| {
            let mut order = order("", web_acl::KIND, web_acl::ALL, inputs);
            order.inputs.insert("scope".into(), scope.clone());
            order
        };
        for (action, inputs) in [(waf_rate_rule::ID, &RATE[..]), (waf_shape_rule::ID, &SHAPE[..])] {
            let mut of = with(inputs);
            of.action = action.into();
            let during = whole_life(&*effects[action], &of, &see).await;
            let shop = during.as_array().unwrap().iter().find(|one| one["Name"] == "shop").unwrap();
            let rule =
                shop["Rules"].as_array().unwrap().iter().find(|one| one["Name"] != "allowed" && one["Priority"] == 10);
            let rule = rule.unwrap_or_else(|| panic!("the rule comes last: {:?}", names(shop)));
            assert!(
                rule["Name"].as_str().unwrap().starts_with("sakimori-") && rule["Action"]["Count"] == json!({}),
                "{rule}"
            );
            let other = during.as_array().unwrap().iter().find(|one| one["Name"] == "other").unwrap();
            assert!(names(other).is_empty(), "it does not refer to our IP set");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shape_counts_first_and_blocks_when_it_is_told_to() {
    let Some(stage) = Stage::start() else { return };
    let (_, other) = scene(&stage, "REGIONAL");
    stands(&stage, &other, "API_GATEWAY");
    let effects = stage.effects().await;
    let shape: &dyn Effect = &*effects[waf_shape_rule::ID];
    // A web ACL that is named needs no IP set of ours.
    let counts = order(waf_shape_rule::ID, web_acl::KIND, "other", &SHAPE);
    let (former, would) = ready(shape, &counts).await;
    assert!(would[0].contains(r#"counts requests whose header user-agent contains "${jndi:""#), "{would:?}");
    shape.apply(&counts, &former).await.unwrap();
    let mut again = counts.clone();
    again.id = "again".into();
    assert!(nothing(shape, &again).await.contains("does the same already"));
    let mut blocks = again.clone();
    blocks.inputs.insert("mode".into(), "block".into());
    let (of_block, _) = ready(shape, &blocks).await;
    shape.apply(&blocks, &of_block).await.unwrap();
    let acl = |at: usize| {
        read(&stage, "REGIONAL").as_array().unwrap().iter().filter(|one| one["Name"] == "other").nth(at).cloned()
    };
    assert_eq!(names(&acl(0).unwrap()).len(), 2);
    shape.undo(&counts, &former).await.unwrap();
    let left = acl(0).unwrap();
    assert_eq!((names(&left).len(), &left["Rules"][0]["Action"]), (1, &json!({ "Block": {} })), "each takes its own");

    // A web ACL that went away, that was never there, that stands nowhere, and inputs that say nothing.
    let lock = stage.ask(json!([["wafv2", "get_web_acl", { "Scope": "REGIONAL", "Name": "other", "Id": left["Id"] }]]));
    let delete = json!({ "Scope": "REGIONAL", "Name": "other", "Id": left["Id"], "LockToken": lock[0]["LockToken"] });
    stage.make(json!([["wafv2", "delete_web_acl", delete]]));
    assert!(remark(shape.undo(&blocks, &of_block).await.unwrap()).unwrap().contains("deleted meanwhile"));
    assert!(!shape.apply(&blocks, &of_block).await.unwrap_err().is_transient());
    assert!(nothing(shape, &counts).await.contains("no web ACL other"));
    let shop = order(waf_shape_rule::ID, web_acl::KIND, "shop", &SHAPE);
    assert!(nothing(shape, &shop).await.contains("in front of nothing"));
    stage.set(json!({ "denied": ["AMPLIFY"] }));
    let (_, would) = ready(shape, &shop).await;
    assert!(would[0].contains("AMPLIFY could not be listed"), "what is not seen is no absence: {would:?}");
    let elsewhere = order(waf_shape_rule::ID, web_acl::KIND, "all", &[SHAPE[0], SHAPE[1], ("ip_set", "mine")]);
    assert!(nothing(shape, &elsewhere).await.contains("mine-v4"));
    let wrong = order(waf_shape_rule::ID, web_acl::KIND, "all", &[]);
    assert!(!shape.look(&wrong).await.unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_stands_in_front_of_nothing_says_so() {
    let Some(stage) = Stage::start() else { return };
    let (shop, _) = scene(&stage, "REGIONAL");
    let wanted = BTreeSet::from(["192.0.2.7".parse().unwrap()]);
    let open = async |web_acl: &str| {
        let config = WafConfig { account: stage.account(), web_acl: web_acl.into(), ..WafConfig::default() };
        WafSets::open(config).await.unwrap().replace(&wanted).await.unwrap().no_effect
    };
    let why = open("").await.unwrap();
    assert!(why.contains("web ACL shop that blocks them stands in front of nothing"), "{why}");
    let why = open("other").await.unwrap();
    assert!(why.contains("no blocking rule of other refers to IP set sakimori-blocked-v4"), "{why}");
    stage.set(json!({ "denied": ["APP_RUNNER_SERVICE"] }));
    assert_eq!(open("").await, None, "what is not seen is no absence");
    stage.set(json!({ "denied": [] }));
    stands(&stage, &shop, "APPSYNC");
    assert_eq!(open("shop").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_somebody_deleted_is_made_anew() {
    let Some(stage) = Stage::start() else { return };
    let config = WafConfig { account: stage.account(), ip_set: "gone".into(), ..WafConfig::default() };
    let sets = WafSets::open(config).await.unwrap();
    let wanted = BTreeSet::from(["192.0.2.7".parse().unwrap()]);
    sets.replace(&wanted).await.unwrap();
    let listed = stage.ask(json!([["wafv2", "list_ip_sets", { "Scope": "REGIONAL" }]]));
    let set = &listed[0]["IPSets"][0];
    let delete = json!({ "Scope": "REGIONAL", "Name": set["Name"], "Id": set["Id"], "LockToken": set["LockToken"] });
    stage.make(json!([["wafv2", "delete_ip_set", delete]]));
    sets.replace(&wanted).await.unwrap();
    assert_eq!(sets.read().await.unwrap(), wanted);
}
