"""The Auto Scaling group of the replacement's story in the AWS simulator, by AWS's own SDK for Python, which shares no code with
what is shown. It answers each line of its input with a line of JSON:

  ["build"]                   a group of one instance behind a load balancer, and a topic with a queue; says their names
  ["tell", TOPIC, MESSAGE]    sends a message to the topic
  ["see", INSTANCE]           the group's instances, and what is known of this one
"""
import json
import sys

import boto3


def client(service):
    return boto3.client(service, region_name="ap-northeast-1", endpoint_url=sys.argv[1], aws_access_key_id="reader",
                        aws_secret_access_key="reader")


ec2, elb, scaling, sns, sqs = (client(name) for name in ("ec2", "elbv2", "autoscaling", "sns", "sqs"))


def build():
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnet = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][0]["SubnetId"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    group = ec2.create_security_group(GroupName="web", Description="web servers", VpcId=vpc)["GroupId"]
    target = elb.create_target_group(Name="web", Protocol="HTTP", Port=8080, VpcId=vpc)["TargetGroups"][0]["TargetGroupArn"]
    data = {"ImageId": image, "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [group]}]}
    template = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)["LaunchTemplate"]
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=4, DesiredCapacity=1, VPCZoneIdentifier=subnet,
        LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"]}, HealthCheckType="ELB", HealthCheckGracePeriod=300)
    instance = scaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Instances"][0]["InstanceId"]
    elb.register_targets(TargetGroupArn=target, Targets=[{"Id": instance, "Port": 8080}])
    topic = sns.create_topic(Name="deep-security")["TopicArn"]
    queue = sqs.create_queue(QueueName="deep-security")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return {"instance": instance, "topic": topic, "queue": queue}


def see(name):
    group = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]
    by = [{"Name": "attachment.instance-id", "Values": [name]}]
    interfaces = ec2.describe_network_interfaces(Filters=by)["NetworkInterfaces"]
    served = [one for target in elb.describe_target_groups()["TargetGroups"]
              for one in elb.describe_target_health(TargetGroupArn=target["TargetGroupArn"])["TargetHealthDescriptions"]
              if one["Target"]["Id"] == name and one["TargetHealth"]["State"] != "draining"]
    return {
        "group": {one["InstanceId"]: one["LifecycleState"] for one in group["Instances"]},
        "groups": sorted(one["GroupName"] for interface in interfaces for one in interface["Groups"]),
        "state": ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]["State"]["Name"],
        "served": bool(served)}


for line in sys.stdin:
    what, *given = json.loads(line)
    answer = {"build": build, "tell": lambda topic, message: sns.publish(TopicArn=topic, Message=message), "see": see}[what](*given)
    print(json.dumps(answer, sort_keys=True, default=str), flush=True)
