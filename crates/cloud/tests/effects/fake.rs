//! What the simulator does not answer, played after the published models of the API and strictly: an unknown operation or
//! field is refused, as AWS would.
//!
//! Systems Manager: DescribeInstanceInformation (missing there), GetCommandInvocation (there every command is over at once and
//! printed nothing). Virtual desktops are played by `tools/aws-fake.py` (the simulator's have no address and no name).

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::front::Call;

/// The state of what is played.
#[derive(Default)]
pub struct Fake {
    /// Instances that Systems Manager knows: ping status and platform.
    pub managed: BTreeMap<String, (String, String)>,
    /// How often commands are still under way when asked for.
    pub busy: usize,
    /// How commands end, and what they print.
    pub ends: (String, String),
    /// Instances that wait in a lifecycle hook of their launch: its group and name.
    pub hooked: BTreeMap<String, (String, String)>,
}

type Answer = Result<Json, (&'static str, String)>;

impl Fake {
    /// The answer to a call; `None` where the simulator has it.
    pub fn answer(&mut self, call: &Call) -> Option<(u16, String)> {
        if call.operation == "CompleteLifecycleAction" {
            return Some(self.complete(call));
        }
        let answer = match (call.service.as_str(), call.operation.as_str()) {
            ("ssm", "DescribeInstanceInformation") => self.information(call),
            ("ssm", "GetCommandInvocation") => self.invocation(call),
            _ => return None,
        };
        Some(match answer {
            Ok(answer) => (200, answer.to_string()),
            Err((code, message)) => (400, json!({ "__type": code, "message": message }).to_string()),
        })
    }

    /// An instance that waits in a hook is in service once that is completed, as the published model has it.
    fn complete(&mut self, call: &Call) -> (u16, String) {
        const KNOWN: [&str; 6] =
            ["Action", "Version", "AutoScalingGroupName", "LifecycleHookName", "InstanceId", "LifecycleActionResult"];
        let given = |name: &str| call.parameter(name).unwrap_or_default();
        let names = call.body.split('&').filter_map(|pair| pair.split('=').next());
        let strange = names.into_iter().find(|name| !KNOWN.contains(name));
        let hook = (given("AutoScalingGroupName"), given("LifecycleHookName"));
        let wrong = match self.hooked.get(&given("InstanceId")) {
            _ if strange.is_some() => Some(format!("no parameter {strange:?}")),
            _ if !["CONTINUE", "ABANDON"].contains(&given("LifecycleActionResult").as_str()) => {
                Some("result".to_owned())
            }
            Some(waits) if *waits == hook => None,
            _ => Some(format!("No active Lifecycle Action found with instance ID {}", given("InstanceId"))),
        };
        match wrong {
            Some(message) => (
                400,
                format!(
                    "<ErrorResponse><Error><Code>ValidationError</Code><Message>{message}</Message></Error></ErrorResponse>"
                ),
            ),
            None => {
                self.hooked.remove(&given("InstanceId"));
                let inner =
                    "<CompleteLifecycleActionResult/><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>";
                (200, format!("<CompleteLifecycleActionResponse>{inner}</CompleteLifecycleActionResponse>"))
            }
        }
    }

    /// Is this the question for an instance that waits in a hook?
    pub fn waits(&self, call: &Call, id: &str) -> bool {
        call.operation == "DescribeAutoScalingInstances" && self.hooked.contains_key(id)
    }

    fn information(&self, call: &Call) -> Answer {
        let asked = fields(call, &["Filters", "InstanceInformationFilterList", "MaxResults", "NextToken"])?;
        let filters = asked["Filters"].as_array().cloned().unwrap_or_default();
        let wanted: Vec<&str> = filters
            .iter()
            .flat_map(|one| {
                assert_eq!(one["Key"], "InstanceIds");
                one["Values"].as_array().unwrap().iter().filter_map(Json::as_str)
            })
            .collect();
        let known = self.managed.iter().filter(|(id, _)| wanted.contains(&id.as_str()));
        let list: Vec<Json> = known.map(|(id, (ping, platform))| {
            json!({ "InstanceId": id, "PingStatus": ping, "PlatformType": platform, "AgentVersion": "3.3.0.0" })
        }).collect();
        Ok(json!({ "InstanceInformationList": list }))
    }

    fn invocation(&mut self, call: &Call) -> Answer {
        let asked = fields(call, &["CommandId", "InstanceId", "PluginName"])?;
        let (state, output) = match self.busy {
            0 => (self.ends.0.as_str(), self.ends.1.as_str()),
            _ => ("InProgress", ""),
        };
        self.busy = self.busy.saturating_sub(1);
        Ok(json!({
            "CommandId": asked["CommandId"], "InstanceId": asked["InstanceId"], "DocumentName": "AWS-RunShellScript",
            "Status": state, "StatusDetails": state, "StandardOutputContent": output, "StandardErrorContent": "",
        }))
    }
}

/// The simulator's answer about one instance, as of one that waits in a hook of its launch.
pub fn waiting(answer: String) -> String {
    answer.replace("<LifecycleState>InService<", "<LifecycleState>Pending:Wait<")
}

/// The parameters, of which there may be these.
fn fields(call: &Call, known: &[&str]) -> Answer {
    let asked: Json =
        serde_json::from_str(&call.body).map_err(|error| ("SerializationException", error.to_string()))?;
    let object = asked.as_object().ok_or(("SerializationException", "no structure".to_owned()))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(("ValidationException", format!("{} has no parameter {key}", call.operation))),
        None => Ok(asked),
    }
}
