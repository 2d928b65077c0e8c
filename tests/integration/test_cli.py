"""``carsight keys`` against a stack and against the local deployment."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from carsight_service.cli import main
from carsight_service.cli.installation import Installation
from carsight_service.cli.redrive import _redrive
from carsight_service.contract.api import Api
from carsight_service.contract.errors import PlanWithoutApi, UnknownKey
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.model import key_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Run = Callable[..., str]

OWNER = ("--owner", "fleet@example.com")


@pytest.fixture
def carsight(
    aws: str,
    table: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command with ``--local`` and returns what it prints."""
    endpoint = {
        "AWS_ENDPOINT_URL": aws,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "TABLE_NAME": table,
    }
    below = tmp_path / "some" / "folder"
    below.mkdir(parents=True)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "endpoint.json").write_text(json.dumps(endpoint))
    monkeypatch.chdir(below)

    def run(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--local"]) == status
        printed = capsys.readouterr()
        return printed.out if status == 0 else printed.err

    return run


@pytest.fixture
def store(table: str, dynamodb: DynamoDBClient) -> MeterStore:
    return MeterStore(table, dynamodb)


def create(carsight: Run, *options: str) -> str:
    key: str = json.loads(carsight("keys", "create", *OWNER, *options, "--json"))["key"]
    return key


def test_create_shows_a_working_key_once(carsight: Run, store: MeterStore) -> None:
    printed = carsight("keys", "create", *OWNER, "--tier", "starter", "--label", "gate 3")
    key = printed.splitlines()[0]
    assert re.fullmatch(r"cs_[0-9A-Za-z]{43}", key)
    assert printed.count(key) == 1
    assert "This is the only time that the key is shown." in printed
    assert store.consume(key, Api.PLATE).limit == 200
    assert key not in carsight("keys", "list")
    assert key not in carsight("keys", "show", key[:11])


@pytest.mark.parametrize(
    ("tier", "period", "limit", "overage"),
    [
        ("sandbox", "lifetime", 100, False),
        ("starter", None, 200, True),
        ("pro", None, 1000, True),
    ],
)
def test_a_key_has_the_limits_of_its_tier(
    carsight: Run, tier: str, period: str | None, limit: int, overage: bool
) -> None:
    account = json.loads(carsight("keys", "create", *OWNER, "--tier", tier, "--json"))
    assert [usage["api"] for usage in account["usage"]] == ["plate", "vin"]
    for usage in account["usage"]:
        assert usage["limit"] == limit
        assert usage["overage"] is overage
        assert usage["period"] == period if period else re.fullmatch(r"\d{4}-\d{2}", usage["period"])


def test_an_enterprise_key_needs_limits_of_its_own(carsight: Run, store: MeterStore) -> None:
    assert "name at least one" in carsight("keys", "create", *OWNER, "--tier", "enterprise", status=1)
    key = create(carsight, "--tier", "enterprise", "--limit", "plate=50000")
    assert store.consume(key, Api.PLATE).limit == 50_000
    with pytest.raises(PlanWithoutApi):
        store.consume(key, Api.VIN)


def test_a_key_takes_its_limits_from_a_tiers_file(carsight: Run, store: MeterStore, tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.toml"
    tiers.write_text('[fleet]\nperiod = "month"\noverage = false\nlimits = { plate = 7 }\n')
    key = create(carsight, "--tier", "fleet", "--tiers", str(tiers))
    assert store.consume(key, Api.PLATE).limit == 7
    tiers.write_text("[fleet]\nperiod = 3\n")
    assert "is not a valid tiers file" in carsight(
        "keys", "create", *OWNER, "--tier", "fleet", "--tiers", str(tiers), status=1
    )


def test_list_is_a_table(carsight: Run) -> None:
    assert carsight("keys", "list") == "no keys\n"
    key = create(carsight, "--tier", "pro", "--label", "gate 3")
    lines = carsight("keys", "list").splitlines()
    assert lines[0].split() == ["KEY", "STATUS", "TIER", "OWNER", "LABEL", "CREATED"]
    assert lines[1].split()[:6] == [key[:11], "active", "pro", "fleet@example.com", "gate", "3"]
    assert json.loads(carsight("keys", "list", "--json"))[0]["key_id"] == key_id(key)


def test_a_key_is_found_by_the_beginning_of_its_prefix_or_id(carsight: Run) -> None:
    key = create(carsight, "--tier", "pro")
    other = create(carsight, "--tier", "pro")
    for name in (key[:11], key[:9], key_id(key), key_id(key)[:12], key):
        assert json.loads(carsight("keys", "show", name, "--json"))["key_id"] == key_id(key)
    assert "2 keys begin with 'cs_'" in carsight("keys", "show", "cs_", status=1)
    assert "no key begins with" in carsight("keys", "show", "nothing", status=1)
    assert "no key has the id" in carsight("keys", "show", "0" * 64, status=1)
    assert key_id(other) != key_id(key)


def test_set_changes_only_what_is_given_and_keeps_the_usage(carsight: Run, store: MeterStore) -> None:
    key = create(carsight, "--tier", "starter", "--label", "gate 3")
    for _ in range(3):
        store.consume(key, Api.PLATE)
    account = json.loads(
        carsight(
            *("keys", "set", key[:11], "--tier", "pro", "--limit", "plate=2", "--overage", "off", "--json")
        )
    )
    assert (account["tier"], account["label"]) == ("pro", "gate 3")
    plate, vin = account["usage"]
    assert (plate["current"], plate["limit"], plate["remaining"], plate["overage"]) == (3, 2, 0, False)
    assert (vin["current"], vin["limit"]) == (0, 1000)
    account = json.loads(carsight("keys", "set", key[:11], "--limit", "vin=none", "--json"))
    assert [usage["api"] for usage in account["usage"]] == ["plate"]
    carsight("keys", "set", key[:11], "--limit", "plate=4")
    assert store.consume(key, Api.PLATE).remaining == 0


def test_an_upgrade_from_the_sandbox_starts_counting_again(carsight: Run, store: MeterStore) -> None:
    key = create(carsight, "--tier", "sandbox")
    store.consume(key, Api.PLATE)
    account = json.loads(carsight("keys", "set", key[:11], "--tier", "starter", "--json"))
    assert [usage["current"] for usage in account["usage"]] == [0, 0]
    assert [(past["period"], past["used"]) for past in account["history"]] == [("lifetime", 1)]
    assert store.consume(key, Api.PLATE).current == 1


def test_disable_refuses_and_set_allows_again(carsight: Run, store: MeterStore) -> None:
    key = create(carsight, "--tier", "pro")
    assert "Status:  disabled" in carsight("keys", "disable", key[:11])
    with pytest.raises(UnknownKey):
        store.consume(key, Api.PLATE)
    carsight("keys", "set", key[:11], "--status", "active")
    assert store.consume(key, Api.PLATE).current == 1


def test_rotate_replaces_the_key_and_keeps_its_usage(carsight: Run, store: MeterStore) -> None:
    key = create(carsight, "--tier", "starter", "--label", "gate 3")
    store.consume(key, Api.PLATE)
    rotated = json.loads(carsight("keys", "rotate", key[:11], "--json"))
    assert rotated["label"] == "gate 3"
    assert store.consume(rotated["key"], Api.PLATE).current == 2
    with pytest.raises(UnknownKey):
        store.consume(key, Api.PLATE)
    assert [listed["prefix"] for listed in json.loads(carsight("keys", "list", "--json"))] == [
        rotated["key"][:11]
    ]


def test_usage_is_shown_of_all_keys_or_of_one(carsight: Run, store: MeterStore) -> None:
    key = create(carsight, "--tier", "starter")
    create(carsight, "--tier", "pro")
    for _ in range(50):
        store.consume(key, Api.PLATE)
    assert len(carsight("keys", "usage").splitlines()) == 5
    lines = carsight("keys", "usage", key[:11]).splitlines()
    assert lines[1].split()[4:7] == ["50", "200", "25"]
    # Keys made in one second are listed in the order of their ids, which are random.
    every = json.loads(carsight("keys", "usage", "--json"))
    assert sorted(one["usage"][0]["remaining"] for one in every) == [150, 1000]


@pytest.mark.parametrize("limit", ["plate", "plate=", "plate=-1", "plate=many", "bus=3"])
def test_an_invalid_limit_is_explained(carsight: Run, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        carsight("keys", "create", *OWNER, "--tier", "pro", "--limit", limit)
    assert stopped.value.code == 2
    assert "argument --limit" in capsys.readouterr().err


def test_without_a_local_deployment_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "list", "--local"]) == 1
    assert "is `make run` running?" in capsys.readouterr().err


STACK: dict[str, Any] = {
    "Resources": {
        "Keys": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [
                    {"AttributeName": "pk", "KeyType": "HASH"},
                    {"AttributeName": "sk", "KeyType": "RANGE"},
                ],
                "AttributeDefinitions": [
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "S"},
                ],
            },
        }
    },
    "Outputs": {"TableName": {"Value": {"Ref": "Keys"}}},
}


def test_a_stack_is_found_by_its_outputs(aws: str, capsys: pytest.CaptureFixture[str]) -> None:
    cloudformation = boto3.client("cloudformation")
    for name, template in (
        ("mine", STACK),
        ("not-mine", {"Resources": STACK["Resources"], "Outputs": {}}),
    ):
        cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    where = ("--stack-name", "mine", "--region", "eu-central-1")
    assert main(["keys", "create", *OWNER, "--tier", "pro", *where]) == 0
    capsys.readouterr()
    assert main(["keys", "list", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["owner"] == "fleet@example.com"
    assert main(["keys", "list", "--stack-name", "not-mine"]) == 1
    assert "not a Carsight deployment: it has no TableName output" in capsys.readouterr().err
    assert main(["keys", "list", "--stack-name", "nowhere"]) == 1
    assert "carsight: " in capsys.readouterr().err


def test_redrive_uses_long_polls(capsys: pytest.CaptureFixture[str]) -> None:
    """SQS asks some of its servers at a short poll and all of them at a long one."""
    key = "0123456789abcdef" * 4
    upload = f'{{"Records":[{{"s3":{{"object":{{"key":"incoming/{key}/vin/a+b.jpg"}}}}}}]}}'
    delivery = f'{{"key_id":"{key}","delivery":"1","body":"{{}}"}}'
    waiting = {"uploads": ['{"Event": "s3:TestEvent"}', upload], "webhooks": [delivery]}
    sent: list[tuple[str, str, str | None]] = []

    class Queues:
        def receive_message(self, **asked: Any) -> dict[str, Any]:
            messages = waiting[asked["QueueUrl"]][:1] if asked.get("WaitTimeSeconds") else []
            return {"Messages": [{"MessageId": m, "Body": m, "ReceiptHandle": m} for m in messages]}

        def send_message(self, **asked: Any) -> None:
            sent.append((asked["QueueUrl"], asked["MessageBody"], asked.get("MessageGroupId")))

        def delete_message(self, **asked: Any) -> None:
            waiting[asked["QueueUrl"]].remove(asked["ReceiptHandle"])

    class Session:
        def client(self, *_: Any, **__: Any) -> Queues:
            return Queues()

    resources = {
        "UPLOADS_DEAD_LETTERS_URL": "uploads",
        "WEBHOOKS_DEAD_LETTERS_URL": "webhooks",
        "PLATE_QUEUE_URL": "plates",
        "WEBHOOKS_QUEUE_URL": "deliveries",
    }
    _redrive(Installation(Session(), resources), argparse.Namespace(json=True))  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out) == {"uploads": 2, "webhooks": 1}
    test_event = '{"Event": "s3:TestEvent"}'
    assert sent == [("plates", test_event, None), ("plates", upload, key), ("deliveries", delivery, key)]


def test_the_command_needs_no_environment_of_the_functions(tmp_path: Path) -> None:
    package = Path(__file__).parents[2] / "layers" / "service" / "python"
    answer = subprocess.run(
        [sys.executable, "-m", "carsight_service.cli", "keys", "list", "--local"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("carsight: no .local/endpoint.json")
