//! `function_stop`.

use sakimori_respond::actions::function_stop;
use serde_json::{Value, json};

use crate::stage::{Stage, nothing, order, ready, remark, whole_life};

pub fn scene(stage: &Stage) {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole" }] });
    // An archive without entries.
    let code = format!("504b0506{}", "0".repeat(36));
    stage.make(json!([
        ["iam", "create_role", { "RoleName": "runs", "AssumeRolePolicyDocument": trust.to_string() }],
        ["lambda", "create_function", { "FunctionName": "resize", "Runtime": "python3.12", "Handler": "a.b",
            "Role": format!("arn:aws:iam::{}:role/runs", crate::stage::ACCOUNT), "Code": { "ZipFile": code } }],
    ]));
}

fn read(stage: &Stage) -> Value {
    Value::Array(stage.ask(json!([
        ["lambda", "get_function_concurrency", { "FunctionName": "resize" }],
        ["lambda", "get_function_configuration", { "FunctionName": "resize" }],
    ])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_stopped_and_runs_again_as_it_did() {
    let Some(stage) = Stage::start() else { return };
    scene(&stage);
    let effects = stage.effects().await;
    let (stop, of) = (&*effects[function_stop::ID], order(function_stop::ID, function_stop::KIND, "resize", &[]));
    let see = || read(&stage);
    let reserve = |number: i32| {
        let of = json!({ "FunctionName": "resize", "ReservedConcurrentExecutions": number });
        stage.make(json!([["lambda", "put_function_concurrency", of]]));
    };
    let during = whole_life(stop, &of, &see).await;
    assert_eq!(during[0]["ReservedConcurrentExecutions"], 0);
    reserve(7);
    whole_life(stop, &of, &see).await;
    assert_eq!(read(&stage)[0]["ReservedConcurrentExecutions"], 7);

    let (former, _) = ready(stop, &of).await;
    stop.apply(&of, &former).await.unwrap();
    assert!(nothing(stop, &of).await.contains("stopped already"));
    reserve(3);
    assert!(remark(stop.undo(&of, &former).await.unwrap()).unwrap().contains("that is kept"));
    assert_eq!(read(&stage)[0]["ReservedConcurrentExecutions"], 3);
    stage.make(json!([["lambda", "delete_function", { "FunctionName": "resize" }]]));
    assert!(remark(stop.undo(&of, &former).await.unwrap()).unwrap().contains("deleted meanwhile"));
    assert!(nothing(stop, &of).await.contains("no function resize"));
}
