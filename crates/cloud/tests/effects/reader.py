"""Sets scenes up in the simulator and reads them back, through AWS's own SDK for Python: shares no code with what is tested.

Reads one JSON request a line and answers one JSON a line:
  {"do": "call", "service": "ec2", "operation": "run_instances", "region": "...", "arguments": {...}}
  {"do": "see", "region": "..."}    everything that the actions could change there, in one canonical form
"""
import json
import sys

import boto3

moto, front = sys.argv[1], sys.argv[2]
# What the simulator does not play is answered by the tests' own front.
THROUGH_FRONT = {"workspaces"}
clients = {}


def client(service, region):
    key = (service, region)
    if key not in clients:
        clients[key] = boto3.client(
            service, region_name=region, endpoint_url=front if service in THROUGH_FRONT else moto,
            aws_access_key_id="reader", aws_secret_access_key="reader")
    return clients[key]


def tags(resource, key="Tags"):
    return {tag["Key"]: tag["Value"] for tag in resource.get(key) or []}


def pages(service, region, operation, field, **arguments):
    call = client(service, region)
    if call.can_paginate(operation):
        return [one for page in call.get_paginator(operation).paginate(**arguments) for one in page[field]]
    return getattr(call, operation)(**arguments)[field]


def instances(region):
    seen = {}
    for reservation in pages("ec2", region, "describe_instances", "Reservations"):
        for one in reservation["Instances"]:
            seen[one["InstanceId"]] = {
                "state": one["State"]["Name"], "tags": tags(one),
                "groups": sorted(group["GroupId"] for group in one.get("SecurityGroups", [])),
                "disks": sorted(disk["Ebs"]["VolumeId"] for disk in one.get("BlockDeviceMappings", []))}
    return seen


def interfaces(region):
    seen = {}
    for one in pages("ec2", region, "describe_network_interfaces", "NetworkInterfaces"):
        attached = one.get("Attachment") or {}
        seen[one["NetworkInterfaceId"]] = {
            "groups": sorted(group["GroupId"] for group in one["Groups"]), "tags": tags(one, "TagSet"),
            "instance": attached.get("InstanceId"), "address": one.get("PrivateIpAddress"), "subnet": one["SubnetId"]}
    return seen


def groups(region):
    seen = {}
    for one in pages("ec2", region, "describe_security_groups", "SecurityGroups"):
        seen[one["GroupId"]] = {"name": one["GroupName"], "vpc": one.get("VpcId"), "tags": tags(one), "rules": []}
    for rule in pages("ec2", region, "describe_security_group_rules", "SecurityGroupRules"):
        text = json.dumps({
            "out": rule["IsEgress"], "protocol": rule["IpProtocol"], "from": rule.get("FromPort"), "to": rule.get("ToPort"),
            "source": [rule.get("CidrIpv4"), rule.get("CidrIpv6"), rule.get("PrefixListId"), rule.get("ReferencedGroupInfo")],
            "about": rule.get("Description"), "tags": tags(rule)}, sort_keys=True, default=str)
        seen[rule["GroupId"]]["rules"].append(text)
    for one in seen.values():
        one["rules"].sort()
    return seen


def snapshots(region):
    found = pages("ec2", region, "describe_snapshots", "Snapshots", OwnerIds=["self"])
    return {one["SnapshotId"]: {"disk": one["VolumeId"], "state": one["State"], "tags": tags(one)}
            for one in found if tags(one)}


def volumes(region):
    return {one["VolumeId"]: {"state": one["State"], "at": sorted(to["InstanceId"] for to in one["Attachments"])}
            for one in pages("ec2", region, "describe_volumes", "Volumes")}


def targets(region):
    seen = {}
    for group in pages("elbv2", region, "describe_target_groups", "TargetGroups"):
        found = client("elbv2", region).describe_target_health(TargetGroupArn=group["TargetGroupArn"])
        seen[group["TargetGroupName"]] = sorted(
            [one["Target"]["Id"], one["Target"].get("Port"), one["Target"].get("AvailabilityZone")]
            for one in found["TargetHealthDescriptions"] if one["TargetHealth"]["State"] not in ("draining",))
    return seen


def balancers(region):
    return {one["LoadBalancerName"]: sorted(instance["InstanceId"] for instance in one["Instances"])
            for one in pages("elb", region, "describe_load_balancers", "LoadBalancerDescriptions")}


def scaling(region):
    return {one["AutoScalingGroupName"]: {
        "desired": one["DesiredCapacity"], "least": one["MinSize"], "most": one["MaxSize"],
        "instances": sorted([instance["InstanceId"], instance["LifecycleState"], instance["ProtectedFromScaleIn"]]
                            for instance in one["Instances"])}
        for one in pages("autoscaling", region, "describe_auto_scaling_groups", "AutoScalingGroups")}


def desktops(region):
    return {one["WorkspaceId"]: one for one in pages("workspaces", region, "describe_workspaces", "Workspaces")}


def commands(region):
    return {one["CommandId"]: {"comment": one["Comment"], "document": one["DocumentName"], "at": one["InstanceIds"],
                               "parameters": one["Parameters"], "bucket": one.get("OutputS3BucketName") or None}
            for one in client("ssm", region).list_commands()["Commands"]}


PARTS = [instances, interfaces, groups, snapshots, volumes, targets, balancers, scaling, desktops, commands]

for line in sys.stdin:
    asked = json.loads(line)
    try:
        if asked["do"] == "see":
            answer = {part.__name__: part(asked["region"]) for part in PARTS}
        else:
            answer = getattr(client(asked["service"], asked["region"]), asked["operation"])(**asked["arguments"])
            answer.pop("ResponseMetadata", None)
    except Exception as error:  # The test says what it was about.
        answer = {"error": repr(error)}
    print(json.dumps(answer, sort_keys=True, default=str), flush=True)
