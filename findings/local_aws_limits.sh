#!/usr/bin/env bash
# No local AWS refuses all that AWS refuses, and the two that are used most let different things through.
set -euo pipefail
home=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$home"' EXIT
for engine in "moto[s3,sqs,dynamodb,events]==5.2.5 boto3==1.44.8" "ministack==1.5.33 boto3==1.43.106"; do
  venv="$home/${engine%%[\[=]*}"
  python3 -m venv "$venv"
  # shellcheck disable=SC2086 # two requirements
  "$venv/bin/pip" install --quiet --disable-pip-version-check $engine >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
done
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(cd "$home" && BIND_HOST=127.0.0.1 GATEWAY_PORT=$port exec ministack/bin/ministack) >"$home/server" 2>&1 &
server=$!
for _ in $(seq 120); do grep -q "Running on" "$home/server" && break; sleep 1; done
cat >"$home/ask.py" <<'PYTHON'
import contextlib
import json
import os
import sys

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
import boto3
from botocore.exceptions import ClientError

endpoint = sys.argv[1] or None
if endpoint:
    local = contextlib.nullcontext()
else:
    import moto

    local = moto.mock_aws()
with local:
    dynamodb, s3, sqs, events = (boto3.client(n, endpoint_url=endpoint) for n in ("dynamodb", "s3", "sqs", "events"))
    dynamodb.create_table(
        TableName="meters",
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="meters", Item={"key": {"S": "a"}, "used": {"N": "1"}})
    s3.create_bucket(Bucket="results")
    queue = sqs.create_queue(QueueName="uploads")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="x")

    def update(**expressions):
        values = {":one": {"N": "1"}}
        dynamodb.update_item(TableName="meters", Key={"key": {"S": "a"}}, ExpressionAttributeValues=values, **expressions)

    def small_parts():
        upload = s3.create_multipart_upload(Bucket="results", Key="joined")["UploadId"]
        part = {"Bucket": "results", "Key": "joined", "UploadId": upload}
        parts = [{"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=b"x", **part)["ETag"]} for n in (1, 2)]
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **part)

    def bad_event():
        answer = events.put_events(Entries=[{"Source": "a", "DetailType": "b", "Detail": "not JSON"}])
        if answer["FailedEntryCount"]:
            raise ClientError({"Error": {"Code": answer["Entries"][0]["ErrorCode"], "Message": ""}}, "PutEvents")

    seen = {}
    for name, ask in {
        "a condition with arithmetic": lambda: update(UpdateExpression="SET n = :one", ConditionExpression="used + :one > :one"),
        "SET and REMOVE of one attribute": lambda: update(UpdateExpression="SET n = :one REMOVE n"),
        "an object's key of 1,025 bytes": lambda: s3.put_object(Bucket="results", Key="x" * 1025, Body=b""),
        "joining parts of one byte": small_parts,
        "a delay of 901 s": lambda: sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=901),
        "a visibility of 43,201 s": lambda: sqs.receive_message(QueueUrl=queue, VisibilityTimeout=43201),
        "U+0001 in a message": lambda: sqs.send_message(QueueUrl=queue, MessageBody="a\x01b"),
        "an event that is not JSON": bad_event,
    }.items():
        try:
            ask()
            seen[name] = "accepted"
        except Exception as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            seen[name] = code.rpartition(".")[2]
json.dump(seen, open(sys.argv[2], "w"))
PYTHON
"$home/moto/bin/python" -W ignore "$home/ask.py" "" "$home/moto.json"
"$home/ministack/bin/python" -W ignore "$home/ask.py" "http://127.0.0.1:$port" "$home/ministack.json"
python3 - "$home" <<'PYTHON'
import json
import sys

print("moto 5.2.5, ministack 1.5.33")
print("assumed: what AWS refuses by its own documentation, a local AWS refuses too, with an error of the same kind")
moto, ministack = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("moto", "ministack"))
for name in moto:
    print(f"seen: {name:32} moto: {moto[name]:28} ministack: {ministack[name]}")
wanted = {
    "a condition with arithmetic": ("ValueError", "accepted"),
    "SET and REMOVE of one attribute": ("ValidationException", "accepted"),
    "an object's key of 1,025 bytes": ("accepted", "accepted"),
    "joining parts of one byte": ("EntityTooSmall", "accepted"),
    "a delay of 901 s": ("InvalidParameterValue", "accepted"),
    "a visibility of 43,201 s": ("InvalidParameterValue", "accepted"),
    "U+0001 in a message": ("accepted", "InvalidMessageContents"),
    "an event that is not JSON": ("MalformedDetail", "accepted"),
}
sys.exit({name: (moto[name], ministack[name]) for name in moto} != wanted)
PYTHON
