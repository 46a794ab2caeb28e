"""Builds what the playbooks act on in the simulator, and reads it back by AWS's own SDK for Python: a second reader that
shares no code with the actions.

  scene.py ENDPOINT build            makes it and prints the names
  scene.py ENDPOINT see KIND NAME    prints all that an action could change about one thing, as canonical JSON
"""
import json
import sys

import boto3

ENDPOINT, WHAT = sys.argv[1], sys.argv[2]
REGION = "ap-northeast-1"


def client(service):
    return boto3.client(service, region_name=REGION, endpoint_url=ENDPOINT, aws_access_key_id="reader",
                        aws_secret_access_key="reader")


ec2, elb, scaling, iam, s3 = (client(name) for name in ("ec2", "elbv2", "autoscaling", "iam", "s3"))


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
    return {"instances": instances, "grouped": grouped, "key": key, "bucket": "photos"}


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


answer = build() if WHAT == "build" else {"instance": instance, "key": key, "bucket": bucket}[sys.argv[3]](sys.argv[4])
print(json.dumps(answer, sort_keys=True, default=str))
