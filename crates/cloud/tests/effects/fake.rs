//! What the simulator does not answer, played after the published models of the API and strictly: an unknown operation or
//! field is refused, as AWS would.
//!
//! Amazon WorkSpaces: DescribeWorkspaces (the simulator's desktops have no address and no name), StopWorkspaces,
//! StartWorkspaces. Systems Manager: DescribeInstanceInformation (missing there), GetCommandInvocation (there every command is
//! over at once and printed nothing).

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::front::Call;

/// Desktops of a page, as the model says at most.
const PAGE: usize = 25;

/// The state of what is played.
#[derive(Default)]
pub struct Fake {
    /// Desktops of a region, by id, as the API tells them.
    pub desktops: BTreeMap<String, BTreeMap<String, Json>>,
    /// Instances that Systems Manager knows: ping status and platform.
    pub managed: BTreeMap<String, (String, String)>,
    /// How often commands are still under way when asked for.
    pub busy: usize,
    /// How commands end, and what they print.
    pub ends: (String, String),
}

/// A desktop as the API tells it.
pub fn desktop(id: &str, name: &str, user: &str, address: &str, subnet: &str, mode: &str) -> Json {
    json!({
        "WorkspaceId": id, "ComputerName": name, "UserName": user, "IpAddress": address, "SubnetId": subnet,
        "DirectoryId": "d-0a1b2c3d4e", "BundleId": "wsb-0a1b2c3d4", "State": "AVAILABLE",
        "WorkspaceProperties": { "RunningMode": mode },
    })
}

type Answer = Result<Json, (&'static str, String)>;

impl Fake {
    /// The answer to a call; `None` where the simulator has it.
    pub fn answer(&mut self, call: &Call) -> Option<(u16, String)> {
        let answer = match (call.service.as_str(), call.operation.as_str()) {
            ("workspaces", _) => self.workspaces(call),
            ("ssm", "DescribeInstanceInformation") => self.information(call),
            ("ssm", "GetCommandInvocation") => self.invocation(call),
            _ => return None,
        };
        Some(match answer {
            Ok(answer) => (200, answer.to_string()),
            Err((code, message)) => (400, json!({ "__type": code, "message": message }).to_string()),
        })
    }

    fn workspaces(&mut self, call: &Call) -> Answer {
        let desktops = self.desktops.entry(call.region.clone()).or_default();
        let asked = match call.operation.as_str() {
            "DescribeWorkspaces" => fields(
                call,
                &["WorkspaceIds", "DirectoryId", "UserName", "BundleId", "Limit", "NextToken", "WorkspaceName"],
            )?,
            "StopWorkspaces" => fields(call, &["StopWorkspaceRequests"])?,
            "StartWorkspaces" => fields(call, &["StartWorkspaceRequests"])?,
            other => return Err(("UnknownOperationException", format!("no operation {other}"))),
        };
        match call.operation.as_str() {
            "DescribeWorkspaces" => describe(desktops, &asked),
            "StopWorkspaces" => {
                let right = ["AVAILABLE", "IMPAIRED", "UNHEALTHY", "ERROR"];
                turn(desktops, &asked["StopWorkspaceRequests"], &right, "STOPPING")
            }
            _ => turn(desktops, &asked["StartWorkspaceRequests"], &["STOPPED"], "STARTING"),
        }
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

fn describe(desktops: &mut BTreeMap<String, Json>, asked: &Json) -> Answer {
    let ids = asked["WorkspaceIds"].as_array();
    let given = ["WorkspaceIds", "DirectoryId", "BundleId"].iter().filter(|name| !asked[**name].is_null()).count();
    if given > 1
        || !asked["UserName"].is_null() && asked["DirectoryId"].is_null()
        || ids.is_some_and(|ids| ids.len() > PAGE)
    {
        return Err(("InvalidParameterValuesException", "parameters that do not go together".to_owned()));
    }
    let limit = asked["Limit"].as_u64().map_or(Ok(PAGE), |limit| match limit {
        1..=25 => Ok(limit as usize),
        _ => Err(("ValidationException", "Limit is 1 to 25".to_owned())),
    })?;
    let from: usize = asked["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
    let fits = |one: &&Json| {
        let same = |name: &str| asked[name].is_null() || asked[name] == one[name];
        ids.is_none_or(|ids| ids.contains(&one["WorkspaceId"]))
            && same("DirectoryId")
            && same("UserName")
            && same("BundleId")
    };
    let all: Vec<Json> = desktops.values().filter(fits).cloned().collect();
    let page: Vec<Json> = all.iter().skip(from).take(limit).cloned().collect();
    // What is on its way arrives once it was seen.
    for one in page.iter().filter_map(|one| one["WorkspaceId"].as_str()) {
        let next = match desktops[one]["State"].as_str() {
            Some("STOPPING") => "STOPPED",
            Some("STARTING") => "AVAILABLE",
            _ => continue,
        };
        desktops.get_mut(one).unwrap()["State"] = json!(next);
    }
    let mut answer = json!({ "Workspaces": page });
    if from + limit < all.len() {
        answer["NextToken"] = json!((from + limit).to_string());
    }
    Ok(answer)
}

fn turn(desktops: &mut BTreeMap<String, Json>, requests: &Json, from: &[&str], to: &str) -> Answer {
    let requests = requests.as_array().filter(|list| (1..=25).contains(&list.len()));
    let requests = requests.ok_or(("ValidationException", "1 to 25 requests".to_owned()))?;
    let mut failed = Vec::new();
    for request in requests {
        let keys: Vec<&String> = request.as_object().unwrap().keys().collect();
        if keys != ["WorkspaceId"] {
            return Err(("ValidationException", format!("a request of {keys:?}")));
        }
        let id = request["WorkspaceId"].as_str().unwrap_or_default();
        let mut fail = |code: &str, message: &str| {
            failed.push(json!({ "WorkspaceId": id, "ErrorCode": code, "ErrorMessage": message }));
        };
        match desktops.get_mut(id) {
            None => fail("ResourceNotFound.Workspace", "there is no such desktop"),
            Some(one) if one["WorkspaceProperties"]["RunningMode"] == "ALWAYS_ON" => {
                fail("InvalidRunningMode.Workspace", "not with this running mode");
            }
            Some(one) if from.contains(&one["State"].as_str().unwrap_or_default()) => one["State"] = json!(to),
            Some(_) => fail("InvalidState.Workspace", "not in this state"),
        }
    }
    Ok(json!({ "FailedRequests": failed }))
}
