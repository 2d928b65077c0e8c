#!/usr/bin/env bash
# Powertools names the same upload in two ways, and each is wrong for one of the two events that S3 sends.
. "$(dirname "$0")/prepare.bash"
with_packages aws-lambda-powertools==3.37.0 pydantic==2.13.5
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version
from urllib.parse import quote_plus

from aws_lambda_powertools.utilities.data_classes import S3EventBridgeNotificationEvent, S3Event
from aws_lambda_powertools.utilities.parser.models import S3EventNotificationEventBridgeModel, S3Model

# A notification's key is URL-encoded (Amazon S3 User Guide, "Event message structure"); EventBridge gets it as it is.
KEY = "gate+2/car 1.jpg"
WHO = {"principalId": "EXAMPLE"}
NOTIFICATION = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2026-11-28T10:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": WHO,
            "requestParameters": {"sourceIPAddress": "192.0.2.1"},
            "responseElements": {"x-amz-request-id": "EXAMPLE", "x-amz-id-2": "EXAMPLE"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "uploads",
                "bucket": {"name": "photos", "ownerIdentity": WHO, "arn": "arn:aws:s3:::photos"},
                "object": {"key": quote_plus(KEY, safe="/"), "size": 1, "eTag": "0" * 32, "sequencer": "00"},
            },
        }
    ]
}
EVENTBRIDGE = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "123456789012",
    "time": "2026-11-28T10:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:s3:::photos"],
    "detail": {
        "version": "0",
        "bucket": {"name": "photos"},
        "object": {"key": KEY, "size": 1, "etag": "0" * 32, "version-id": "a", "sequencer": "00"},
        "request-id": "EXAMPLE",
        "requester": "123456789012",
        "source-ip-address": "192.0.2.1",
        "reason": "PutObject",
    },
}
print("aws-lambda-powertools", version("aws-lambda-powertools"))
print(f"assumed: an event's class gives the object's key, {KEY!r}, as S3 wants it")
seen = {
    "S3 notification, data class": S3Event(NOTIFICATION).object_key,
    "S3 notification, parser's model": S3Model(**NOTIFICATION).Records[0].s3.object.key,
    "EventBridge, data class": S3EventBridgeNotificationEvent(EVENTBRIDGE).detail.object.key,
    "EventBridge, parser's model": S3EventNotificationEventBridgeModel(**EVENTBRIDGE).detail.object.key,
}
for way, key in seen.items():
    print(f"seen: {way:32} {key!r} {'is' if key == KEY else 'is not'} the key")
sys.exit([key == KEY for key in seen.values()] != [True, False, False, True])
PYTHON
