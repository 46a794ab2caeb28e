"""A small strict fake of what the AWS simulator does not answer, after the published API models (those that AWS's own SDK in
Python carries): a request that the model refuses (a member that it does not know, one that is missing, a value outside its
enumeration, pattern or length) is answered as AWS would. It holds pipelines with their stages and executions, and virtual
desktops; it says which resources stand behind a web ACL, and what a role may do; it sets the workflow of Security Hub's findings.
Tests and the demo use it:

  aws-fake.py PORT [SIMULATOR]      serves the APIs; tests set its state with PUT /set and read it with GET /set

Of Security Hub it plays the change of findings, and passes the rest on to the simulator, whose findings it shows as changed.
"""

import http.server
import json
import re
import sys
import urllib.parse
import urllib.request

import botocore.session

session = botocore.session.get_session()
models = {name: session.get_service_model(name) for name in ("codepipeline", "wafv2", "workspaces", "securityhub", "iam")}

# What tests set with PUT /set and read with GET /set, as JSON. Desktops are those of a region, by their id, as the API tells them.
state = {
    "pipelines": {}, "resources": {}, "desktops": {}, "updates": {}, "allowed": [], "denied": [], "simulates": True, "on": {},
}


class Refused(Exception):
    def __init__(self, code, message=""):
        super().__init__(message)
        self.code = code


def check(shape, value, at):
    """Is a value as its shape in the model says? Stricter than the SDK's own check, which knows no patterns."""
    kind = {"structure": dict, "list": list, "map": dict, "string": str, "integer": int, "long": int, "boolean": bool}
    expected = kind.get(shape.type_name)
    if expected and not isinstance(value, expected):
        raise Refused("ValidationException", f"{at} is no {shape.type_name}")
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        missing = set(shape.required_members) - set(value)
        if unknown or missing:
            raise Refused("ValidationException", f"{at}: unknown {sorted(unknown)}, missing {sorted(missing)}")
        for name, one in value.items():
            check(shape.members[name], one, f"{at}.{name}")
    elif shape.type_name == "list":
        if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", 1 << 20):
            raise Refused("ValidationException", f"{at}: {len(value)} members")
        for one in value:
            check(shape.member, one, at)
    elif shape.type_name == "string":
        limits = shape.metadata
        if "enum" in limits and value not in limits["enum"]:
            raise Refused("ValidationException", f"{at}: {value} is none of {limits['enum']}")
        if not limits.get("min", 0) <= len(value) <= limits.get("max", 1 << 20):
            raise Refused("ValidationException", f"{at}: a length of {len(value)}")
        if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
            raise Refused("ValidationException", f"{at}: {value} does not match {limits['pattern']}")
    elif shape.type_name in ("integer", "long"):
        if not shape.metadata.get("min", -(1 << 62)) <= value <= shape.metadata.get("max", 1 << 62):
            raise Refused("ValidationException", f"{at}: {value}")


def pipeline(body, name="pipelineName"):
    if body[name] not in state["pipelines"]:
        raise Refused("PipelineNotFoundException")
    return state["pipelines"][body[name]]


def stage(body):
    found = [one for one in pipeline(body)["stages"] if one["name"] == body["stageName"]]
    if not found:
        raise Refused("StageNotFoundException")
    if body["transitionType"] == "Inbound" and found[0] is pipeline(body)["stages"][0]:
        raise Refused("ValidationException", "nothing goes into the first stage")
    return found[0]


def list_executions(body):
    executions = pipeline(body)["executions"]
    return {"pipelineExecutionSummaries": [{"pipelineExecutionId": key, "status": executions[key]} for key in executions]}


def stop_execution(body):
    executions = pipeline(body)["executions"]
    status = executions.get(body["pipelineExecutionId"])
    if status == "Stopping":
        raise Refused("DuplicatedStopRequestException")
    if status != "InProgress":
        raise Refused("PipelineExecutionNotStoppableException")
    executions[body["pipelineExecutionId"]] = "Stopped" if body.get("abandon") else "Stopping"
    return {"pipelineExecutionId": body["pipelineExecutionId"]}


def pipeline_state(body):
    states = []
    for at, one in enumerate(pipeline(body, "name")["stages"]):
        shown = {"stageName": one["name"]}
        if at:
            shown["inboundTransitionState"] = {"enabled": one["closed"] is None}
            if one["closed"] is not None:
                shown["inboundTransitionState"]["disabledReason"] = one["closed"]
        states.append(shown)
    return {"pipelineName": body["name"], "stageStates": states}


def disable(body):
    stage(body)["closed"] = body["reason"]
    return {}


def enable(body):
    stage(body)["closed"] = None
    return {}


def resources(body):
    kind = body.get("ResourceType", "APPLICATION_LOAD_BALANCER")
    if kind in state["denied"]:
        raise Refused("AccessDeniedException", "not authorized")
    return {"ResourceArns": state["resources"].get(body["WebACLArn"], {}).get(kind, [])}


def describe_desktops(body, region):
    known = state["desktops"].get(region, {})
    ways = [name for name in ("WorkspaceIds", "DirectoryId", "BundleId") if name in body]
    if len(ways) > 1 or ("UserName" in body and "DirectoryId" not in body):
        raise Refused("InvalidParameterValuesException", "parameters that do not go together")
    fits = [key for key in sorted(known) if key in body.get("WorkspaceIds", [key])
            and all(known[key][name] == body[name] for name in ("DirectoryId", "UserName", "BundleId") if name in body)]
    start, limit = int(body.get("NextToken", 0)), body.get("Limit", 25)
    page = fits[start:start + limit]
    answer = {"Workspaces": [dict(known[key]) for key in page]}
    # What is on its way arrives once it was seen.
    for key in page:
        known[key]["State"] = {"STOPPING": "STOPPED", "STARTING": "AVAILABLE"}.get(known[key]["State"], known[key]["State"])
    if start + limit < len(fits):
        answer["NextToken"] = str(start + limit)
    return answer


def turn_desktops(requests, region, right, to):
    failed = []
    for key in (request["WorkspaceId"] for request in requests):
        one = state["desktops"].get(region, {}).get(key)
        if one is None:
            why = "ResourceNotFound.Workspace"
        elif one["WorkspaceProperties"]["RunningMode"] == "ALWAYS_ON":
            why = "InvalidRunningMode.Workspace"
        elif one["State"] not in right:
            why = "InvalidState.Workspace"
        else:
            one["State"] = to
            continue
        failed.append({"WorkspaceId": key, "ErrorCode": why, "ErrorMessage": "refused"})
    return {"FailedRequests": failed}


def stop_desktops(body, region):
    right = ("AVAILABLE", "IMPAIRED", "UNHEALTHY", "ERROR")
    return turn_desktops(body["StopWorkspaceRequests"], region, right, "STOPPING")


def start_desktops(body, region):
    return turn_desktops(body["StartWorkspaceRequests"], region, ("STOPPED",), "STARTING")


def passed_on(method, path, headers, body):
    """What the simulator answers."""
    kept = {name: headers[name] for name in ("Authorization", "Content-Type", "X-Amz-Date") if name in headers}
    request = urllib.request.Request(f"http://{sys.argv[2]}{path}", data=body.encode(), headers=kept, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def findings(method, path, headers, body):
    """Security Hub: a finding that was changed is shown as it was imported, with the change."""
    names = {"/findings": "GetFindings", "/findings/import": "BatchImportFindings", "/findings/batchupdate": "BatchUpdateFindings"}
    if path not in names or method != ("PATCH" if path.endswith("batchupdate") else "POST"):
        raise Refused("ResourceNotFoundException", path)
    arguments = json.loads(body)
    check(models["securityhub"].operation_model(names[path]).input_shape, arguments, names[path])
    if path == "/findings/import":
        return passed_on(method, path, headers, body)
    if path == "/findings":
        answer = passed_on(method, path, headers, body)
        return answer | {"Findings": [one | state["updates"].get(one["Id"], {}) for one in answer["Findings"]]}
    known = {one["Id"]: one for one in passed_on("POST", "/findings", headers, "{}")["Findings"]}
    done, failed = [], []
    for one in arguments["FindingIdentifiers"]:
        if known.get(one["Id"], {}).get("ProductArn") != one["ProductArn"]:
            failed.append({"FindingIdentifier": one, "ErrorCode": "FindingNotFound", "ErrorMessage": "no such finding"})
            continue
        change = state["updates"].setdefault(one["Id"], {})
        change.update({name: arguments[name] for name in ("Note", "Workflow") if name in arguments})
        done.append(one)
    return {"ProcessedFindings": done, "UnprocessedFindings": failed}


def simulate(form):
    if not state["simulates"]:
        raise Refused("AccessDenied", "not authorized to perform iam:SimulatePrincipalPolicy")
    if ":assumed-role/" in form["PolicySourceArn"]:
        raise Refused("InvalidInput", "the ARN of a session is not supported")
    names = [form[key] for key in sorted(form) if key.startswith("ActionNames.member.")]
    if not names or len(names) > 100:
        raise Refused("InvalidInput", "actions")
    arns = [form[key] for key in sorted(form) if key.startswith("ResourceArns.member.")] or ["*"]
    # What a policy allows on some resources is not allowed on "*".
    fits = lambda name: all(arn == state["on"].get(name.split(":")[0], arn) for arn in arns)
    one = "<member><EvalActionName>{}</EvalActionName><EvalDecision>{}</EvalDecision></member>"
    rows = "".join(one.format(name, "allowed" if name in state["allowed"] and fits(name) else "implicitDeny") for name in names)
    return (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><SimulatePrincipalPolicyResult>'
        f"<EvaluationResults>{rows}</EvaluationResults><IsTruncated>false</IsTruncated>"
        "</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
        "</SimulatePrincipalPolicyResponse>"
    )


OPERATIONS = {
    "ListPipelineExecutions": list_executions,
    "StopPipelineExecution": stop_execution,
    "GetPipelineState": pipeline_state,
    "DisableStageTransition": disable,
    "EnableStageTransition": enable,
    "ListResourcesForWebACL": resources,
}
# Of these the region counts.
IN_REGION = {"DescribeWorkspaces": describe_desktops, "StopWorkspaces": stop_desktops, "StartWorkspaces": start_desktops}
# How a request names its service.
PREFIXES = {models[name].metadata["targetPrefix"]: name for name in ("codepipeline", "wafv2", "workspaces")}


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/x-amz-json-1.1"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

    def do_GET(self):
        self.answer(200, json.dumps(state, sort_keys=True))

    def do_PUT(self):
        state.update(json.loads(self.body()))
        self.answer(200, "{}")

    def do_PATCH(self):
        self.rest("PATCH")

    def rest(self, method):
        try:
            self.answer(200, json.dumps(findings(method, self.path, self.headers, self.body())), "application/json")
        except Refused as error:
            self.answer(400, json.dumps({"__type": error.code, "Message": str(error)}), "application/json")

    def do_POST(self):
        if self.path != "/":
            self.rest("POST")
            return
        target = self.headers.get("X-Amz-Target")
        body = self.body()
        try:
            if target is None:
                form = dict(urllib.parse.parse_qsl(body))
                self.answer(200, simulate(form), "text/xml")
                return
            prefix, operation = target.split(".")
            if prefix not in PREFIXES or operation not in OPERATIONS.keys() | IN_REGION.keys():
                raise Refused("UnknownOperationException", target)
            arguments = json.loads(body)
            check(models[PREFIXES[prefix]].operation_model(operation).input_shape, arguments, operation)
            if operation in IN_REGION:
                region = self.headers.get("Authorization", "").split("Credential=")[1].split("/")[2]
                answer = IN_REGION[operation](arguments, region)
            else:
                answer = OPERATIONS[operation](arguments)
            self.answer(200, json.dumps(answer))
        except Refused as error:
            if target is None:
                xml = f"<ErrorResponse><Error><Type>Sender</Type><Code>{error.code}</Code><Message>{error}</Message></Error></ErrorResponse>"
                self.answer(403 if error.code == "AccessDenied" else 400, xml, "text/xml")
            else:
                self.answer(400, json.dumps({"__type": error.code, "message": str(error)}))


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.serve_forever()
