"""What functions ask of AWS, beside what the template's roles let them: all of it, and nothing more.

Each function runs over the embedded stores with clients that look every call up in its role, as IAM would
("Policy evaluation logic" and "Actions, resources, and condition keys for AWS services" in AWS's guides).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from moto.iam.policy_validation import IAMPolicyDocumentValidator, IAMTrustPolicyDocumentValidator

from carsight_service.batch_store import Batches
from carsight_service.contract.api import Answer, Api
from carsight_service.deployment import Deployment
from carsight_service.http.account import AccountEndpoint
from carsight_service.http.endpoint import Endpoint
from carsight_service.http.executions import Executions
from carsight_service.notify.alerts import Alerts
from carsight_service.notify.webhooks import Deliverer
from carsight_service.queue.batch_steps import BatchSteps
from local.states_language import ROOT
from local.step_functions import MACHINE_ARN
from local.template import read_template
from tests.events import Invocation, event
from tests.pipeline import KEY, KEY_ID, PHOTO, UPLOADS, Pipeline, have_listed, read_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LISTED = "carsight-listed"
"""The bucket in ``AllowedBuckets``."""

TOPIC = "arn:aws:sns:eu-central-1:123456789012:alerts"

_S3 = {
    "get_object": ["GetObject"],
    "put_object": ["PutObject"],
    "list_objects_v2": ["ListBucket"],
    "head_bucket": ["ListBucket"],
    "create_multipart_upload": ["PutObject"],
    "upload_part": ["PutObject"],
    "complete_multipart_upload": ["PutObject"],
    "abort_multipart_upload": ["AbortMultipartUpload"],
    "generate_presigned_post": ["PutObject"],
    "generate_presigned_url": ["GetObject"],
}
"""Actions of S3's operations; all others are called like theirs."""

_OF_LAMBDA = {
    "Log",
    "Trace",
    "FollowTheStream",
    "ListStreams",
    "KeepWhatFailed",
    "TakeWork",
    "TellGoneFromForbidden",
}
"""Statements for what Lambda does for a function, or what changes an answer and not whether there is one."""


def resolved(value: Any, names: Mapping[str, Any]) -> Any:
    """Return ``value`` as CloudFormation makes it, given what references stand for."""
    match value:
        case {"Ref": name} | {"Fn::GetAtt": [name, "Arn"]}:
            return names[name]
        case {"Fn::GetAtt": [name, attribute]}:
            return f"{names[name]}/{attribute}"
        case {"Fn::Sub": [str(text), dict(more)]}:
            return resolved({"Fn::Sub": text}, {**names, **resolved(more, names)})
        case {"Fn::Sub": str(text)}:
            for name, known in names.items():
                text = text.replace(f"${{{name}}}", str(known)).replace(f"${{{name}.Arn}}", str(known))
            return text.replace("${Batches.Name}", MACHINE_ARN.rpartition(":")[2])
        case {"Fn::Join": [delimiter, parts]}:
            return delimiter.join(resolved(parts, names))
        case {"Fn::Split": [delimiter, text]}:
            return resolved(text, names).split(delimiter)
        case {"Fn::If": ["Traced", *_]}:
            return None
        case {"Fn::If": [_, then, _]}:
            return resolved(then, names)
        case dict():
            return {name: resolved(item, names) for name, item in value.items()}
        case list():
            return [made for item in value if (made := resolved(item, names)) is not None]
    return value


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


class Role:
    """A function's role: what it allows, and what of that was needed."""

    def __init__(self, function: str, names: Mapping[str, Any]) -> None:
        resources = read_template()["Resources"]
        role = resources[function]["Properties"]["Role"]["Fn::GetAtt"][0]
        (policy,) = resources[role]["Properties"]["Policies"]
        self.name = role
        self.statements = resolved(policy["PolicyDocument"]["Statement"], names)
        self.used: set[tuple[str, str]] = set()

    def demand(self, action: str, resource: str, **context: str) -> None:
        """Raise ``AssertionError`` where no statement allows ``action``."""
        for statement in self.statements:
            if (
                action in listed(statement["Action"])
                and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
                and all(
                    any(fnmatchcase(context[key], pattern) for pattern in listed(patterns))
                    for keys in statement.get("Condition", {}).values()
                    for key, patterns in keys.items()
                )
            ):
                self.used.add((statement["Sid"], action))
                return
        raise AssertionError(f"{self.name} does not allow {action} on {resource} {context or ''}")

    @property
    def unused(self) -> set[tuple[str, str]]:
        """What is allowed and was not needed, but for what Lambda needs itself."""
        return {
            (statement["Sid"], action)
            for statement in self.statements
            for action in listed(statement["Action"])
            if statement["Sid"] not in _OF_LAMBDA
        } - self.used


class Guarded:
    """A client whose calls need a role's permission."""

    def __init__(self, client: Any, service: str, role: Role) -> None:
        self._client, self._service, self._role = client, service, role

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name in ("exceptions", "meta"):
            return found
        if name == "get_paginator":
            return lambda operation: _Pages(self, operation)

        def call(*arguments: str, **wanted: Any) -> Any:
            self.check(name, wanted.get("Params", wanted))
            return found(*arguments, **wanted)

        return call

    def check(self, operation: str, wanted: Mapping[str, Any]) -> None:
        """Look a call up in the role."""
        action = "".join(part.capitalize() for part in operation.split("_"))
        match self._service:
            case "s3":
                actions = _S3[operation]
                if "VersionId" in wanted:
                    actions = ["GetObjectVersion"]
                if "IfMatch" in wanted and actions == ["PutObject"]:
                    actions = ["PutObject", "GetObject"]
                resource = f"arn:aws:s3:::{wanted['Bucket']}" + (
                    f"/{wanted['Key']}" if "Key" in wanted else ""
                )
                for one in actions:
                    self._role.demand(f"s3:{one}", resource)
            case "dynamodb":
                values = wanted.get("ExpressionAttributeValues", {})
                item = wanted.get("Key") or wanted.get("Item") or {"pk": values.get(":pk")}
                key = {"dynamodb:LeadingKeys": item["pk"]["S"]}
                self._role.demand(f"dynamodb:{action}", f"table/{wanted['TableName']}", **key)
            case "sqs":
                self._role.demand(f"sqs:{action}", wanted["QueueUrl"])
            case "sns":
                self._role.demand(f"sns:{action}", wanted["TopicArn"])
            case "events":
                for entry in wanted["Entries"]:
                    bus = f"arn:aws:events:us-east-1:123456789012:event-bus/{entry['EventBusName']}"
                    self._role.demand("events:PutEvents", bus, **{"events:source": entry["Source"]})
            case "states":
                (arn,) = (value for name, value in wanted.items() if name.lower().endswith("arn"))
                self._role.demand(f"states:{action}", arn)


class _Pages:
    """A paginator whose pages need a role's permission."""

    def __init__(self, guarded: Guarded, operation: str) -> None:
        self._guarded, self._operation = guarded, operation

    def paginate(self, **wanted: Any) -> Any:
        self._guarded.check(self._operation, wanted)
        return self._guarded._client.get_paginator(self._operation).paginate(**wanted)


class GuardedClients:
    """The clients of a function that has a role."""

    _SERVICES: Mapping[str, str] = {
        **dict.fromkeys(("meters", "metering", "work", "dynamodb"), "dynamodb"),
        **dict.fromkeys(("s3", "photos"), "s3"),
        **{name: name for name in ("sqs", "sns", "events", "states")},
    }

    def __init__(self, clients: Any, role: Role) -> None:
        self._clients, self._role = clients, role

    def __getattr__(self, name: str) -> Any:
        return Guarded(getattr(self._clients, name), self._SERVICES[name], self._role)


class Roles(Pipeline):
    """The pipeline, each function of which may do what its role allows."""

    def __init__(self, table: str, dynamodb: DynamoDBClient) -> None:
        self.roles: dict[str, Role] = {}
        super().__init__(table, dynamodb)
        self.s3.create_bucket(Bucket=LISTED, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.clients.sns = cast("Any", _Topic())
        self.workers = {
            Api.PLATE: self.worker(Api.PLATE, self.of("PlateWorkerFunction")),
            Api.VIN: self.worker(Api.VIN, self.of("VinWorkerFunction")),
        }
        functions: Any = self.states._functions
        functions["BatchesFunction"] = self._jobs(BatchSteps(self.of("BatchesFunction")))

    @staticmethod
    def _jobs(jobs: BatchSteps) -> Callable[[Any], Any]:
        return lambda event: jobs.handle(json.loads(json.dumps(event)), Invocation())

    def of(self, function: str) -> Deployment:
        """Return the deployment as ``function`` has it."""
        names = {
            "AWS::Partition": "aws",
            "AWS::Region": "us-east-1",
            "AWS::AccountId": "123456789012",
            "AWS::StackName": MACHINE_ARN.rpartition(":")[2].removesuffix("-batches"),
            "Table": f"table/{self.table}",
            "UploadsBucket": f"arn:aws:s3:::{UPLOADS}",
            "ResultsBucket": f"arn:aws:s3:::{self.results}",
            "PlateQueue": self.plate_queue,
            "VinQueue": self.vin_queue,
            "WebhooksQueue": self.webhooks_queue,
            "Batches": MACHINE_ARN,
            **{name: name for name in ("PlateWorkerFunction", "VinWorkerFunction", "BatchesFunction")},
            "AlertsTopic": TOPIC,
            "AlertsDeadLetters": "",
            "AllowedBuckets": [LISTED],
            **{name: "logs" for name in read_template()["Resources"] if name.endswith("Logs")},
        }
        role = self.roles[function] = Role(function, names)
        deployment = self.deploy(
            allowed_buckets=frozenset({LISTED}), event_bus="default", alerts_topic_arn=TOPIC
        )
        return replace(deployment, aws=cast("Any", GuardedClients(self.clients, role)))

    def close(self) -> None:
        for item in self.s3.list_objects_v2(Bucket=LISTED).get("Contents", []):
            self.s3.delete_object(Bucket=LISTED, Key=item["Key"])
        self.s3.delete_bucket(Bucket=LISTED)
        super().close()


def of_a_version(upload: dict[str, Any]) -> dict[str, Any]:
    """Return an upload's event as a bucket with versions sends it."""
    for record in upload["Records"]:
        body = json.loads(record["body"])
        body["Records"][0]["s3"]["object"]["versionId"] = "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"
        record["body"] = json.dumps(body)
    return upload


class _Topic:
    def publish(self, **_: Any) -> None:
        pass


@pytest.fixture
def roles(table: str, dynamodb: DynamoDBClient) -> Iterator[Roles]:
    made = Roles(table, dynamodb)
    made.create_key()
    made.webhooks.set(KEY_ID, "http://127.0.0.1:9/", plain=True)
    yield made
    made.close()


def call(handler: Any, body: Any, path: str, method: str = "POST", **headers: str) -> tuple[int, Any]:
    sent = event(
        json.dumps(body) if body else "", path=path, method=method, headers={"x-api-key": KEY, **headers}
    )
    answer = handler.handle(sent, Invocation())
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize(
    ("function", "api"), [("PlateFunction", Api.PLATE), ("VinFunction", Api.VIN)], ids=["plate", "vin"]
)
def test_a_call_is_allowed_what_it_does(roles: Roles, function: str, api: Api) -> None:
    roles.s3.put_object(Bucket=LISTED, Key="car.jpg", Body=PHOTO)
    recognize = {Api.PLATE: roles._plates, Api.VIN: roles._vins}[api]

    def dies(image: bytes, regions: Any) -> Answer:
        raise RuntimeError("a fault of ours")

    path = {Api.PLATE: "/platerecognition", Api.VIN: "/v1/vinocr"}[api]
    photo = {"image": f"s3://{LISTED}/car.jpg"}
    deployment = roles.of(function)
    for _ in range(2):
        assert call(Endpoint(deployment, api, recognize), photo, path, **{"idempotency-key": "a"})[0] == 200
    assert call(Endpoint(deployment, api, dies), photo, path, **{"idempotency-key": "b"})[0] == 500
    # What Powertools asks where DynamoDB does not answer a refused write with the record.
    assert roles.roles[function].unused == {("AnswerRetriesOnce", "dynamodb:GetItem")}


def test_uploads_and_batches_are_allowed_what_they_do(roles: Roles) -> None:
    of_account = roles.of("AccountFunction")
    account = AccountEndpoint(of_account)
    for path in ("/v1/auth/validate", "/v1/usage", "/v1/statistics"):
        assert call(account, None, path, "GET")[0] == 200
    assert call(account, {"api": "plate", "name": "car.jpg"}, "/v1/uploads")[0] == 200
    assert call(account, {"format": "csv"}, "/v1/batches/lists")[0] == 200

    uploaded = roles.put("gate 7/car.jpg")
    assert roles.handle(read_event("upload")) == []
    roles.put("label.jpg", api=Api.VIN)
    assert roles.handle(read_event("upload_of_a_vin")) == []
    roles.drain()
    for api, name in {Api.PLATE: "upload", Api.VIN: "upload_of_a_vin"}.items():
        assert roles.handle(of_a_version(read_event(name)), api) == []  # not there any more, says S3

    rows = "\n".join(json.dumps({"image": f"s3://{LISTED}/car.jpg", "id": n}) for n in range(3))
    roles.s3.put_object(Bucket=LISTED, Key="car.jpg", Body=PHOTO)
    roles.s3.put_object(Bucket=LISTED, Key="photos/car.jpg", Body=PHOTO)
    roles.s3.put_object(Bucket=LISTED, Key="list.jsonl", Body=rows.encode())
    sent = f"lists/{'0' * 32}.jsonl"
    roles.s3.put_object(Bucket=roles.results, Key=f"{KEY_ID}/{sent}", Body=rows.encode())
    for api in Api:
        for asked in (
            {"images": [uploaded, f"s3://{LISTED}/car.jpg"]},
            {"list": f"s3://{LISTED}/list.jsonl"},
            {"list": f"s3://{LISTED}/photos/"},
            {"list": sent},
        ):
            status, reply = call(account, {"api": api, **asked}, "/v1/batches")
            assert status == 200, reply
            roles.drain()
            status, reply = call(account, None, f"/v1/batches/{reply['id']}", "GET")
            assert (reply["state"], reply["failed"]) == ("finished", 0)
            batch = Batches(of_account).get(reply["id"])
            assert batch
            assert Executions(of_account).progress(replace(batch, state="running")).pending == 0
    status, reply = call(account, {"api": "plate", "images": [uploaded]}, "/v1/batches")
    assert call(account, None, f"/v1/batches/{reply['id']}", "DELETE")[0] == 200
    roles.drain()
    assert call(account, None, f"/v1/batches/{reply['id']}/redrive")[0] == 200
    roles.drain()
    assert call(account, None, f"/v1/batches/{reply['id']}", "GET")[1]["state"] == "finished"

    have_listed(roles, lambda **_: {"executions": []})
    roles.states._functions["BatchesFunction"]({"sweep": True})

    deliverer = Deliverer(roles.of("WebhooksFunction"))
    waiting = roles.sqs.receive_message(
        QueueUrl=roles.webhooks_queue, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
    )["Messages"]
    records = [
        {
            "messageId": found["MessageId"],
            "receiptHandle": found["ReceiptHandle"],
            "body": found["Body"],
            "attributes": found["Attributes"],
        }
        for found in waiting
    ]
    assert deliverer.handle({"Records": records}, None)["batchItemFailures"]
    unused = {function: role.unused for function, role in roles.roles.items() if role.unused}
    assert unused == {}


def test_the_state_machine_is_allowed_what_it_asks_for(roles: Roles) -> None:
    """What its definition asks for, by "IAM policies for using Distributed Map states" in AWS's guide."""
    properties = read_template()["Resources"]["Batches"]["Properties"]
    definition = json.loads((ROOT / properties["DefinitionUri"]).read_text(encoding="utf-8"))
    roles.of("Batches")
    role = roles.roles["Batches"]
    executions = MACHINE_ARN.replace(":stateMachine:", ":execution:")
    results = f"arn:aws:s3:::{roles.results}/{KEY_ID}/batches/{'0' * 32}"
    for name in re.findall(r"\$\{(\w+Function)}", json.dumps(definition)):
        role.demand("lambda:InvokeFunction", properties["DefinitionSubstitutions"][name]["Fn::GetAtt"][0])
    for label, state in definition["States"].items():
        if state["Type"] == "Map":
            role.demand("states:StartExecution", MACHINE_ARN)
            for action in ("DescribeExecution", "StopExecution", "RedriveExecution"):
                for child in (f"{executions}:1", f"{executions}/{label}:1"):
                    role.demand(f"states:{action}", child)
            if state["ItemReader"]["Resource"].endswith("getObject"):
                role.demand("s3:GetObject", f"{results}/list.jsonl")
            else:
                role.demand("s3:ListBucket", f"arn:aws:s3:::{LISTED}")
            for action in ("PutObject", "GetObject", "ListMultipartUploadParts", "AbortMultipartUpload"):
                role.demand(f"s3:{action}", f"{results}/map/1/SUCCEEDED_0.jsonl")
    assert role.unused == set()


def test_policies_are_accepted_by_iam() -> None:
    """By the rules that moto has taken from it: of an ARN's partition, only the whole may be a wildcard.

    A role's policies may have 10,240 characters, and as many buckets may be listed.
    """
    resources = read_template()["Resources"]
    names: dict[str, Any] = {
        name: "arn:aws:s3:::carsight"
        if about["Type"] == "AWS::S3::Bucket"
        else f"arn:aws:some:us-east-1:123456789012:{name}"
        for name, about in resources.items()
    }
    names |= {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012"}
    names |= {"AWS::StackName": "carsight", "AllowedBuckets": [f"bucket-{n:056}" for n in range(50)]}
    roles = [about["Properties"] for about in resources.values() if about["Type"] == "AWS::IAM::Role"]
    assert roles
    for role in roles:
        trusted = json.dumps(resolved(role["AssumeRolePolicyDocument"], names))
        IAMTrustPolicyDocumentValidator(trusted).validate()
        (policy,) = role["Policies"]
        allowed = json.dumps(resolved(policy["PolicyDocument"], names), separators=(",", ":"))
        IAMPolicyDocumentValidator(allowed).validate()
        assert len(allowed) < 10_240, policy["PolicyName"]


def test_alerts_are_allowed_what_they_do(roles: Roles) -> None:
    streams: Any = boto3.client("dynamodbstreams")
    arn = streams.list_streams(TableName=roles.table)["Streams"][0]["StreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    at = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    roles.keyring.set(KEY_ID, limits={Api.PLATE: 1})
    roles.deployment.meters.consume(KEY, Api.PLATE)
    records = streams.get_records(ShardIterator=at["ShardIterator"])["Records"]
    answer = Alerts(roles.of("AlertsFunction")).handle(
        {"Records": json.loads(json.dumps(records, default=str))}, None
    )
    assert answer == {"batchItemFailures": []}
    assert roles.roles["AlertsFunction"].unused == set()
