"""The second reader: AWS's own SDK in Python, which shares no code with what is tested. Standard input is a JSON list of calls
[service, operation, arguments]; standard output a JSON list of what each answered, with sorted keys. A call that was refused is
{"error": code}. It also sets scenes, since making a user is a call like reading one."""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, region = sys.argv[1:3]
clients = {}


def client(service):
    if service not in clients:
        clients[service] = boto3.client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )
    return clients[service]


def plain(value):
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key != "ResponseMetadata"}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "read"):
        return value.read().decode("latin-1")
    return value


answers = []
for service, operation, arguments in json.load(sys.stdin):
    if "ZipFile" in arguments.get("Code", {}):
        arguments["Code"]["ZipFile"] = bytes.fromhex(arguments["Code"]["ZipFile"])
    try:
        answers.append(plain(getattr(client(service), operation)(**arguments)))
    except ClientError as error:
        answers.append({"error": error.response["Error"]["Code"]})
json.dump(answers, sys.stdout, sort_keys=True)
