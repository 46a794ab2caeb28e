//! `pipeline_stop` and `pipeline_transition_disable`, against the fake: the simulator answers neither.

use sakimori_respond::actions::pipeline_stop::{self, ABANDON, KIND};
use sakimori_respond::actions::pipeline_transition_disable::{self as transition, STAGE};
use sakimori_respond::ports::Effect;
use serde_json::{Value, json};

use crate::stage::{Stage, nothing, order, ready, remark, whole_life};

pub fn scene(stage: &Stage) {
    let stages = ["Source", "Build", "Deploy"].map(|name| json!({ "name": name, "closed": null }));
    let executions = json!({ "00000001-aaaa-bbbb-cccc-dddddddddddd": "InProgress", "00000002-aaaa-bbbb-cccc-dddddddddddd": "Succeeded", "00000003-aaaa-bbbb-cccc-dddddddddddd": "InProgress" });
    stage.set(json!({ "pipelines": { "shop": { "stages": stages, "executions": executions } } }));
}

fn read(stage: &Stage) -> Value {
    Value::Array(stage.ask(json!([
        ["codepipeline", "get_pipeline_state", { "name": "shop" }],
        ["codepipeline", "list_pipeline_executions", { "pipelineName": "shop" }],
    ])))
}

fn status(stage: &Stage) -> Vec<String> {
    let all = read(stage)[1]["pipelineExecutionSummaries"].clone();
    all.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_closed_and_opened_again() {
    let Some(stage) = Stage::start() else { return };
    scene(&stage);
    let effects = stage.effects().await;
    let close: &dyn Effect = &*effects[transition::ID];
    let see = || read(&stage);
    // Where no stage is named, nothing leaves the source.
    let of = order(transition::ID, KIND, "shop", &[]);
    let during = whole_life(close, &of, &see).await;
    let second = &during[0]["stageStates"][1]["inboundTransitionState"];
    assert!(second["disabledReason"].as_str().unwrap().starts_with("sakimori-closed-"), "{second}");
    let deploy = order(transition::ID, KIND, "arn:aws:codepipeline:us-east-1:123456789012:shop", &[(STAGE, "Deploy")]);
    whole_life(close, &deploy, &see).await;

    let (former, _) = ready(close, &deploy).await;
    close.apply(&deploy, &former).await.unwrap();
    assert!(nothing(close, &deploy).await.contains("closed already: sakimori-closed-"));
    // Somebody closes it for another reason: opening it would be wrong.
    let disable =
        json!({ "pipelineName": "shop", "stageName": "Deploy", "transitionType": "Inbound", "reason": "freeze" });
    stage.make(json!([["codepipeline", "disable_stage_transition", disable]]));
    assert!(remark(close.undo(&deploy, &former).await.unwrap()).unwrap().contains("that is kept"));
    assert_eq!(read(&stage)[0]["stageStates"][2]["inboundTransitionState"]["enabled"], false);
    assert!(nothing(close, &order(transition::ID, KIND, "none", &[])).await.contains("no pipeline none"));
    let source = order(transition::ID, KIND, "shop", &[(STAGE, "Source")]);
    assert!(nothing(close, &source).await.contains("it has Build, Deploy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_stopped_once_and_says_before_that_it_stays_so() {
    let Some(stage) = Stage::start() else { return };
    scene(&stage);
    let effects = stage.effects().await;
    let stop = &*effects[pipeline_stop::ID];
    assert_eq!(pipeline_stop::DESCRIPTOR.undo, None);
    for (abandon, is) in [("no", "Stopping"), ("yes", "Stopped")] {
        scene(&stage);
        let of = order(pipeline_stop::ID, KIND, "shop", &[(ABANDON, abandon)]);
        let (former, would) = ready(stop, &of).await;
        assert_eq!(
            (would.len(), status(&stage)),
            (2, ["InProgress", "Succeeded", "InProgress"].map(String::from).to_vec())
        );
        assert!(stop.verify(&of, &former).await.unwrap().is_some());
        for _ in 0..2 {
            assert_eq!(remark(stop.apply(&of, &former).await.unwrap()), None);
            assert_eq!(status(&stage), [is, "Succeeded", is].map(String::from));
        }
        assert_eq!(stop.verify(&of, &former).await.unwrap(), None);
        assert!(nothing(stop, &of).await.contains("no execution"));
        assert!(!stop.undo(&of, &former).await.unwrap_err().is_transient());
    }
    // One ended by itself between the look and the effect.
    scene(&stage);
    let of = order(pipeline_stop::ID, KIND, "shop", &[]);
    let (former, _) = ready(stop, &of).await;
    let stages = json!([{ "name": "Source", "closed": null }]);
    let executions = json!({ "00000001-aaaa-bbbb-cccc-dddddddddddd": "Failed", "00000003-aaaa-bbbb-cccc-dddddddddddd": "InProgress" });
    stage.set(json!({ "pipelines": { "shop": { "stages": stages, "executions": executions } } }));
    assert!(remark(stop.apply(&of, &former).await.unwrap()).unwrap().contains("1 of 2 had ended"));
    assert_eq!(status(&stage), ["Failed", "Stopping"]);
    assert!(nothing(stop, &order(pipeline_stop::ID, KIND, "none", &[])).await.contains("no pipeline none"));
    let wrong = order(pipeline_stop::ID, KIND, "shop", &[(ABANDON, "maybe")]);
    assert!(stop.look(&wrong).await.unwrap_err().to_string().contains("yes or no"));
}
