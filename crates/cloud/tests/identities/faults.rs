//! Harm on the wire: throttling, errors of the server, answers that are lost after the call was carried out, stale reads and
//! lost races. What is wanted comes about all the same, and within AWS's published rates.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sakimori_cloud::aws::waf::{WafConfig, WafSets};
use sakimori_model::Network;
use sakimori_respond::actions::{
    bucket_close, bucket_deny, function_stop, identity, identity_quarantine, sessions_revoke, waf_rate_rule, web_acl,
};
use sakimori_respond::ports::{AddressSet, Effect, Look, PortError, Progress};
use serde_json::json;

use crate::stage::{Stage, order};
use crate::wire::{HARMS, Harmful};
use crate::{buckets, functions, identities, web_acls};

/// Requests, and within which time they come.
const REQUESTS: u32 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);
/// Until when everything has to be as it is wanted.
const PATIENCE: Duration = Duration::from_secs(400);

fn address(at: u32) -> Network {
    match at % 4 {
        0 => format!("2001:db8::{at:x}").parse().unwrap(),
        _ => format!("203.0.{}.{}", at / 256, at % 256).parse().unwrap(),
    }
}

/// Must-show: a thousand requests within a minute, a fifth of the calls harmed, and exactly the right set at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_blocks_in_a_minute_end_with_exactly_the_right_set() {
    let Some(stage) = Stage::start() else { return };
    let (shop, _) = web_acls::scene(&stage, "REGIONAL");
    stage.set(json!({ "resources": { shop: { "APPLICATION_LOAD_BALANCER": ["arn:aws:elasticloadbalancing:us-east-1:1:a"] } } }));
    let sets = WafSets::open(WafConfig { account: stage.account(), ..WafConfig::default() }).await.unwrap();
    stage.wire.calls();
    stage.wire.harm(Some(Harmful { percent: 20, seed: 6 }));
    let began = Instant::now();
    let (mut refused, mut replaced) = (0, 0);
    // As the manager's job does: what is wanted now, all of it, again where it failed. Every fifth request is taken back.
    let all: BTreeSet<Network> = (0..REQUESTS).filter(|at| at % 5 != 3).map(address).collect();
    loop {
        let part = began.elapsed().as_secs_f64() / MINUTE.as_secs_f64();
        let asked = if part >= 1.0 { REQUESTS } else { (f64::from(REQUESTS) * part) as u32 };
        let wanted: BTreeSet<Network> = match asked {
            REQUESTS => all.clone(),
            asked => (0..asked).map(address).collect(),
        };
        match sets.replace(&wanted).await {
            Ok(outcome) => {
                replaced += 1;
                assert_eq!(outcome.no_effect, None, "it stands in front of something");
                if asked == REQUESTS {
                    break;
                }
            }
            Err(problem) => {
                assert!(problem.is_transient(), "{problem}");
                refused += 1;
                // The manager's own pause before it tries again.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        assert!(began.elapsed() < PATIENCE, "{refused} refused");
    }
    let took = began.elapsed();
    stage.wire.harm(None);
    // A stale read may have hidden the end: one look of the manager's, which it takes every few minutes anyway.
    sets.replace(&all).await.unwrap();
    let calls = stage.wire.calls();
    let held = |name: &str| {
        let all = stage.ask(json!([["wafv2", "list_ip_sets", { "Scope": "REGIONAL" }]]));
        let found = all[0]["IPSets"].as_array().unwrap().iter().find(|one| one["Name"] == name).unwrap().clone();
        let get = json!([["wafv2", "get_ip_set", { "Scope": "REGIONAL", "Name": name, "Id": found["Id"] }]]);
        stage.ask(get)[0]["IPSet"]["Addresses"].as_array().unwrap().clone()
    };
    let held = ["sakimori-blocked-v4", "sakimori-blocked-v6"].map(held).concat();
    let held: BTreeSet<Network> = held.iter().map(|one| one.as_str().unwrap().parse().unwrap()).collect();
    assert!(held == all, "{} of {} are held", held.len(), all.len());

    let kinds: BTreeSet<_> = calls.iter().filter_map(|call| call.harm).collect();
    assert_eq!(kinds.len(), HARMS.len(), "every harm was done: {kinds:?}");
    let harmed = calls.iter().filter(|call| call.harm.is_some()).count();
    // The calls of an operation, from each to the next.
    let gaps = |operation: &str, apart: usize| {
        let times: Vec<Instant> = calls.iter().filter(|call| call.operation == operation).map(|call| call.at).collect();
        let gaps = times.windows(apart + 1).map(|some| some[apart] - some[0]).collect::<Vec<_>>();
        (times.len(), gaps.into_iter().min().unwrap_or(MINUTE))
    };
    let (updates, least) = gaps("UpdateIPSet", 1);
    eprintln!(
        "{REQUESTS} requests: the right set after {:.1} s, {replaced} replaced and {refused} refused; {} calls, {harmed} of \
         them harmed, {updates} updates at least {:.2} s apart",
        took.as_secs_f64(),
        calls.len(),
        least.as_secs_f64()
    );
    // The published quotas: a change of one kind a second, and so one question what stands behind a web ACL; five of any other
    // reads. What the wire sees is a little blurred.
    let blur = Duration::from_millis(900);
    assert!(least >= blur, "{updates} updates, two of them {least:?} apart");
    assert!(gaps("ListResourcesForWebACL", 1).1 >= blur);
    for read in ["ListIPSets", "GetIPSet", "ListWebACLs", "GetWebACL"] {
        let (times, six) = gaps(read, 5);
        assert!(six >= blur, "{times} times {read}, six of them within {six:?}");
    }
}

/// Goes on as the manager does: again after what may go away by itself.
async fn until<T>(mut again: impl AsyncFnMut() -> Result<T, PortError>) -> T {
    let began = Instant::now();
    loop {
        match again().await {
            Ok(value) => return value,
            Err(problem) => assert!(problem.is_transient() && began.elapsed() < PATIENCE, "{problem}"),
        }
    }
}

/// Every effect's whole life with a third of its calls harmed: there and back, exactly.
#[tokio::test(flavor = "multi_thread")]
async fn effects_come_about_and_go_back_whatever_is_done_to_their_calls() {
    let Some(stage) = Stage::start() else { return };
    identities::scene(&stage);
    buckets::scene(&stage);
    functions::scene(&stage);
    let (shop, _) = web_acls::scene(&stage, "REGIONAL");
    stage.set(json!({ "resources": { shop: { "APPLICATION_LOAD_BALANCER": ["arn:aws:elasticloadbalancing:us-east-1:1:a"] } } }));
    let effects = stage.effects().await;
    let see = || {
        let others = stage.ask(json!([
            ["iam", "list_user_policies", { "UserName": "alice" }],
            ["iam", "list_role_policies", { "RoleName": "deploy" }],
            ["s3", "get_public_access_block", { "Bucket": "photos" }],
            ["s3", "get_bucket_policy", { "Bucket": "photos" }],
            ["lambda", "get_function_concurrency", { "FunctionName": "resize" }],
        ]));
        json!([others, web_acls::read(&stage, "REGIONAL")])
    };
    let before = see();
    for seed in 0..3 {
        for (action, kind, name, inputs) in [
            (bucket_close::ID, bucket_close::KIND, "photos", &[][..]),
            (bucket_deny::ID, bucket_close::KIND, "photos", &[]),
            (function_stop::ID, function_stop::KIND, "resize", &[]),
            (identity_quarantine::ID, identity::KIND, "user/alice", &[]),
            (sessions_revoke::ID, identity::KIND, "role/deploy", &[]),
            (waf_rate_rule::ID, web_acl::KIND, web_acl::ALL, &[("limit", "100")]),
        ] {
            let (effect, order): (&dyn Effect, _) = (&*effects[action], order(action, kind, name, inputs));
            stage.wire.harm(Some(Harmful { percent: 30, seed }));
            let former = match until(async || effect.look(&order).await).await {
                Look::Ready { former, .. } => former,
                other => panic!("{action}: {other:?}"),
            };
            // As the driver: what is not in effect yet is applied again.
            let taken = async || match effect.apply(&order, &former).await? {
                Progress::Done { .. } => match effect.verify(&order, &former).await? {
                    None => Ok(()),
                    Some(not) => Err(PortError::transient(not)),
                },
                Progress::Pending { what, .. } => Err(PortError::transient(what)),
            };
            until(taken).await;
            until(async || effect.undo(&order, &former).await).await;
            stage.wire.harm(None);
            // A read that was stale may have hidden that there was something to take back: the next undo sees it.
            effect.undo(&order, &former).await.unwrap();
            assert_eq!(see(), before, "{action} with seed {seed}");
        }
    }
}
