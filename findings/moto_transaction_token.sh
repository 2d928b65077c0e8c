#!/usr/bin/env bash
# moto counts a DynamoDB transaction again each time it is sent, although its token says that it is the same one.
. "$(dirname "$0")/prepare.bash"
with_packages 'moto[dynamodb]==5.2.5' boto3==1.44.8
"$python" - <<'PYTHON'
import os
import sys

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
import boto3
import moto
from botocore.exceptions import ClientError

print("moto", moto.__version__)
print("assumed, as AWS documents ClientRequestToken: sent three times it counts once; with another content it is refused")
with moto.mock_aws():
    client = boto3.client("dynamodb")
    client.create_table(
        TableName="meters",
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def add(units: str) -> None:
        update = {
            "TableName": "meters",
            "Key": {"key": {"S": "a"}},
            "UpdateExpression": "ADD used :units",
            "ExpressionAttributeValues": {":units": {"N": units}},
        }
        client.transact_write_items(TransactItems=[{"Update": update}], ClientRequestToken="one-request")

    for _ in range(3):
        add("1")
    used = client.get_item(TableName="meters", Key={"key": {"S": "a"}})["Item"]["used"]["N"]
    try:
        add("5")
        other = "accepted"
    except ClientError as error:
        other = error.response["Error"]["Code"]
print(f"seen: the unit sent three times with one token is counted {used} times; another content with that token is {other}")
sys.exit((used, other) != ("3", "accepted"))
PYTHON
