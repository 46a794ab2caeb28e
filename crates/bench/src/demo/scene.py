"""Builds what the playbooks act on in the simulator, and reads it back by AWS's own SDK for Python: a second reader that
shares no code with the actions.

  scene.py SIMULATOR FAKE    answers each line of its input with a line, in canonical JSON:
    ["build"]                makes it, and says the names
    ["see", KIND, NAME]      all that an action could change about one thing
"""
import json
import sys
import urllib.request

import boto3

SIMULATOR, FAKE = sys.argv[1], sys.argv[2]
REGION = "ap-northeast-1"


def client(service, endpoint=SIMULATOR):
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, aws_access_key_id="reader",
                        aws_secret_access_key="reader")


ec2, elb, scaling, iam, s3, waf = (client(name) for name in ("ec2", "elbv2", "autoscaling", "iam", "s3", "wafv2"))
# The simulator's desktops have neither address nor name.
workspaces = client("workspaces", FAKE)


def build():
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnet = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][0]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    web = ec2.create_security_group(GroupName="web", Description="web servers", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=[{
        "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}])
    target = elb.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0]["TargetGroupArn"]
    # By interface: the simulator mixes groups of the instance with those of its interfaces, which AWS does not.
    interface = {"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Groups": [web]}
    made = ec2.run_instances(ImageId=image, MinCount=3, MaxCount=3, NetworkInterfaces=[interface])
    instances = [one["InstanceId"] for one in made["Instances"]]
    elb.register_targets(TargetGroupArn=target, Targets=[{"Id": one, "Port": 80} for one in instances])
    template = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={
        "ImageId": image, "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [web]}]})["LaunchTemplate"]["LaunchTemplateId"]
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=4, DesiredCapacity=1, VPCZoneIdentifier=subnet["SubnetId"],
        LaunchTemplate={"LaunchTemplateId": template})
    grouped = scaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Instances"][0]["InstanceId"]
    elb.register_targets(TargetGroupArn=target, Targets=[{"Id": grouped, "Port": 8080}])
    iam.create_user(UserName="deploy")
    key = iam.create_access_key(UserName="deploy")["AccessKey"]["AccessKeyId"]
    s3.create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
    # A desktop, and its interface in the VPC.
    office = ec2.create_security_group(GroupName="office", Description="desktops", VpcId=vpc)["GroupId"]
    made = ec2.create_network_interface(SubnetId=subnet["SubnetId"], Groups=[office])["NetworkInterface"]
    desktop = {
        "WorkspaceId": "ws-0a1b2c3d4", "ComputerName": "PC-7", "UserName": "hanako", "IpAddress": made["PrivateIpAddress"],
        "SubnetId": subnet["SubnetId"], "DirectoryId": "d-0a1b2c3d4e", "BundleId": "wsb-0a1b2c3d4", "State": "AVAILABLE",
        "WorkspaceProperties": {"RunningMode": "AUTO_STOP"}}
    state = json.dumps({"desktops": {REGION: {desktop["WorkspaceId"]: desktop}}}).encode()
    urllib.request.urlopen(urllib.request.Request(FAKE + "/set", data=state, method="PUT")).close()
    return {"instances": instances, "grouped": grouped, "key": key, "bucket": "photos", "desktop": desktop["ComputerName"]}


def instance(name):
    found = ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
    interfaces = ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [name]}])
    served = []
    for group in elb.describe_target_groups()["TargetGroups"]:
        health = elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]
        served += [[group["TargetGroupName"], one["Target"]["Port"]] for one in health
                   if one["Target"]["Id"] == name and one["TargetHealth"]["State"] != "draining"]
    member = scaling.describe_auto_scaling_instances(InstanceIds=[name])["AutoScalingInstances"]
    snapshots = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    disks = [one["Ebs"]["VolumeId"] for one in found.get("BlockDeviceMappings", [])]
    return {
        "state": found["State"]["Name"],
        "tags": sorted([one["Key"], one["Value"]] for one in found.get("Tags", []) if not one["Key"].startswith("aws:")),
        "groups": {one["NetworkInterfaceId"]: sorted(group["GroupName"] for group in one["Groups"])
                   for one in interfaces["NetworkInterfaces"]},
        "served by": sorted(served),
        "member of": sorted([one["AutoScalingGroupName"], one["LifecycleState"]] for one in member),
        "snapshots": sum(one["VolumeId"] in disks for one in snapshots),
    }


def key(name):
    keys = iam.list_access_keys(UserName="deploy")["AccessKeyMetadata"]
    return {"key": [one["Status"] for one in keys if one["AccessKeyId"] == name],
            "policies": iam.list_user_policies(UserName="deploy")["PolicyNames"]}


def bucket(name):
    try:
        return {"public access": s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]}
    except s3.exceptions.ClientError as error:
        return {"public access": error.response["Error"]["Code"]}


def desktop(name):
    one = next(one for one in workspaces.describe_workspaces()["Workspaces"] if one["ComputerName"] == name)
    by = [{"Name": "addresses.private-ip-address", "Values": [one["IpAddress"]]}]
    interfaces = ec2.describe_network_interfaces(Filters=by)["NetworkInterfaces"]
    return {
        "desktop": one["State"],
        "tags": sorted([tag["Key"], tag["Value"]] for found in interfaces for tag in found.get("TagSet", [])),
        "groups": {found["NetworkInterfaceId"]: sorted(group["GroupName"] for group in found["Groups"])
                   for found in interfaces}}


def network(name):
    held = []
    for one in waf.list_ip_sets(Scope="REGIONAL")["IPSets"]:
        found = waf.get_ip_set(Name=one["Name"], Scope="REGIONAL", Id=one["Id"])["IPSet"]
        held += [one["Name"] for address in found["Addresses"] if address == name]
    return {"in WAF sets": sorted(held)}


SEEN = {"instance": instance, "key": key, "bucket": bucket, "desktop": desktop, "network": network}
for line in sys.stdin:
    asked = json.loads(line)
    answer = build() if asked == ["build"] else SEEN[asked[1]](asked[2])
    print(json.dumps(answer, sort_keys=True, default=str), flush=True)
