//! The rights that each action's descriptor lists are exactly those of the calls that its code makes: written down by the wire
//! while each effect is looked at, applied, verified and undone, and compared in both directions.

use std::collections::BTreeSet;

use sakimori_cloud::aws::waf::{WafConfig, WafSets};
use sakimori_model::{Network, Order};
use sakimori_respond::actions::{
    access_key_deactivate, bucket_close, bucket_deny, find, function_stop, identity, identity_quarantine,
    pipeline_stop, pipeline_transition_disable, sessions_revoke, waf_block, waf_rate_rule, waf_shape_rule, web_acl,
};
use sakimori_respond::least::{policy, rights_of};
use sakimori_respond::ports::{AddressSet, Effect};
use sakimori_respond::reach::{ANY, Site};
use serde_json::json;

use crate::stage::{Stage, order, ready};
use crate::{buckets, functions, identities, pipelines, web_acls};

async fn live(effect: &dyn Effect, order: &Order) {
    let (former, _) = ready(effect, order).await;
    effect.apply(order, &former).await.unwrap();
    assert_eq!(effect.verify(order, &former).await.unwrap(), None);
    if find(&order.action).unwrap().undo.is_some() {
        effect.undo(order, &former).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_list_the_rights_of_the_calls_that_are_made() {
    let Some(stage) = Stage::start() else { return };
    let key = identities::scene(&stage);
    buckets::scene(&stage);
    functions::scene(&stage);
    pipelines::scene(&stage);
    let (shop, _) = web_acls::scene(&stage, "REGIONAL");
    stage.set(json!({ "resources": { shop: { "APPSYNC": ["arn:aws:appsync:us-east-1:1:apis/a"] } } }));
    let effects = stage.effects().await;
    let of = |action: &str, kind: &str, name: &str| order(action, kind, name, &[]);
    let with_policy = json!([["s3", "put_bucket_policy", { "Bucket": "photos", "Policy": "{\"Statement\":[]}" }]]);
    let reserved = json!([["lambda", "put_function_concurrency",
                           { "FunctionName": "resize", "ReservedConcurrentExecutions": 5 }]]);
    let shape = [("part", "path"), ("text", "/.env")];
    let cases = [
        of(access_key_deactivate::ID, access_key_deactivate::KIND, &key),
        of(bucket_close::ID, bucket_close::KIND, "photos"),
        of(bucket_deny::ID, bucket_close::KIND, "photos"),
        of(function_stop::ID, function_stop::KIND, "resize"),
        of(identity_quarantine::ID, identity::KIND, "user/alice"),
        of(identity_quarantine::ID, identity::KIND, "role/deploy"),
        of(sessions_revoke::ID, identity::KIND, "user/alice"),
        of(sessions_revoke::ID, identity::KIND, "role/deploy"),
        of(pipeline_transition_disable::ID, pipeline_stop::KIND, "shop"),
        of(pipeline_stop::ID, pipeline_stop::KIND, "shop"),
        order(waf_rate_rule::ID, web_acl::KIND, "all", &[("limit", "100")]),
        order(waf_shape_rule::ID, web_acl::KIND, "all", &shape),
    ];
    stage.wire.calls();
    let mut made: std::collections::BTreeMap<String, BTreeSet<String>> = Default::default();
    for case in &cases {
        let effect = &*effects[case.action.as_str()];
        live(effect, case).await;
        let called = made.entry(case.action.clone()).or_default();
        called.extend(stage.wire.rights());
        // The other way back: what was there before was something.
        let (scene, again) = match case.action.as_str() {
            bucket_deny::ID => (&with_policy, true),
            function_stop::ID => (&reserved, true),
            _ => (&with_policy, false),
        };
        if again {
            stage.make(scene.clone());
            live(effect, case).await;
            called.extend(stage.wire.rights());
        }
    }
    let config = WafConfig { account: stage.account(), ip_set: "new".into(), ..WafConfig::default() };
    let sets = WafSets::open(config).await.unwrap();
    let wanted: BTreeSet<Network> = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into();
    sets.replace(&wanted).await.unwrap();
    let of_ours = WafConfig { account: stage.account(), ..WafConfig::default() };
    WafSets::open(of_ours).await.unwrap().replace(&wanted).await.unwrap();
    made.insert(waf_block::ID.into(), stage.wire.rights());
    for (action, made) in made {
        let said: BTreeSet<String> = rights_of(find(&action).unwrap()).map(str::to_owned).collect();
        // The policy allows what was called, and no change on everything.
        let policy = policy(&made.iter().map(String::as_str).collect(), &Site::default());
        let statements = policy["Statement"].as_array().unwrap();
        for call in &made {
            let of = |one: &&serde_json::Value| one["Action"].as_array().unwrap().contains(&json!(call));
            let found: Vec<_> = statements.iter().filter(of).collect();
            assert!(!found.is_empty(), "{action}: {call} is not allowed");
            let anywhere = found.iter().any(|one| one["Resource"] == "*");
            assert_eq!(anywhere, ANY.contains(&call.as_str()), "{action}: {call}");
        }
        let unsaid: Vec<_> = made.difference(&said).collect();
        let unused: Vec<_> = said.difference(&made).collect();
        assert!(
            unsaid.is_empty() && unused.is_empty(),
            "{action}: calls without {unsaid:?}, and says {unused:?} in vain"
        );
    }
}
