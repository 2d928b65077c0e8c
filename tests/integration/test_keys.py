"""Counting, refusing and giving back, exact to the unit."""

from __future__ import annotations

import gc
import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from carsight_service.aws.clients import Clients
from carsight_service.contract import errors
from carsight_service.contract.api import Api
from carsight_service.metering.journal import Journal
from carsight_service.metering.keyring import Keyring, KeyringError
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.model import PastUsage, Status, Usage, key_id, partition

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PYTHONPATH = str(Path(__file__).resolve().parents[2] / "layers" / "service" / "python")

NOVEMBER = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)


class Clock:
    """A clock that tests set."""

    def __init__(self, now: datetime = NOVEMBER) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(table: str, clock: Clock) -> MeterStore:
    return MeterStore(table, Clients().meters, clock)


@pytest.fixture
def keyring(table: str, dynamodb: DynamoDBClient, clock: Clock) -> Keyring:
    return Keyring(table, dynamodb, clock)


def make(keyring: Keyring, limit: int, *, overage: bool = False, tier: str = "pro") -> str:
    limits = {Api.PLATE: limit, Api.VIN: limit}
    return keyring.create(owner="owner@example.com", tier=tier, limits=limits, overage=overage)[0]


def usage_of(keyring: Keyring, key: str, api: Api = Api.PLATE) -> Usage:
    return next(usage for usage in keyring.show(key_id(key)).usage if usage.api is api)


# -- one request after another -------------------------------------------------------------------------------


def test_each_request_counts_one(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=3)
    usages = [store.consume(key, Api.PLATE) for _ in range(3)]
    assert [usage.current for usage in usages] == [1, 2, 3]
    assert usages[0].headers == {
        "x-usage-current": "1",
        "x-usage-limit": "3",
        "x-usage-remaining": "2",
    }
    assert usages[2].remaining == 0
    assert (usages[0].tier, usages[0].period) == ("pro", "2026-11")
    assert usages[0].prefix == key[:11]


def test_each_api_has_its_own_allowance(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=1)
    store.consume(key, Api.PLATE)
    assert store.consume(key, Api.VIN).current == 1


def test_an_upload_counts_by_the_key_s_id(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=1)
    assert store.consume_by_id(key_id(key), Api.PLATE, "upload").current == 1
    with pytest.raises(errors.LimitExceeded):
        store.consume(key, Api.PLATE)


@pytest.mark.parametrize("key", ["", "no such key", "\ud800", "x" * 100_000])
def test_an_unknown_key_is_refused(store: MeterStore, key: str) -> None:
    with pytest.raises(errors.UnknownKey):
        store.consume(key, Api.PLATE)


@pytest.mark.parametrize("wrong_id", ["", "demo", "A" * 64, "a" * 63, "a" * 65, "../" + "a" * 61])
def test_a_malformed_key_id_is_unknown(store: MeterStore, wrong_id: str) -> None:
    with pytest.raises(errors.UnknownKey):
        store.consume_by_id(wrong_id, Api.PLATE, "upload")


def test_the_key_itself_is_stored_nowhere(keyring: Keyring, dynamodb: DynamoDBClient, table: str) -> None:
    key = make(keyring, limit=1)
    assert key not in str(dynamodb.scan(TableName=table)["Items"])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.INACTIVE, errors.InactiveKey),
        (Status.DISABLED, errors.UnknownKey),
        (Status.BLOCKED, errors.BlockedKey),
    ],
)
def test_only_an_active_key_is_served(
    store: MeterStore, keyring: Keyring, status: Status, error: type[errors.ServiceError]
) -> None:
    key = make(keyring, limit=1)
    keyring.set(key_id(key), status=status)
    with pytest.raises(error):
        store.consume(key, Api.PLATE)
    with pytest.raises(error):
        store.account(key)
    keyring.set(key_id(key), status=Status.ACTIVE)
    assert store.consume(key, Api.PLATE).current == 1


def test_a_key_s_status_is_checked_before_limit_and_plan(store: MeterStore, keyring: Keyring) -> None:
    key, _ = keyring.create(owner="o", tier="enterprise", limits={Api.PLATE: 0}, overage=False)
    keyring.set(key_id(key), status=Status.BLOCKED)
    for api in Api:
        with pytest.raises(errors.BlockedKey):
            store.consume(key, api)


def test_a_plan_without_the_api_is_refused(store: MeterStore, keyring: Keyring) -> None:
    key, _ = keyring.create(owner="o", tier="enterprise", limits={Api.PLATE: 5})
    with pytest.raises(errors.PlanWithoutApi):
        store.consume(key, Api.VIN)
    assert store.consume(key, Api.PLATE).limit == 5


def test_the_error_for_a_monthly_limit_says_how_to_continue(
    store: MeterStore, keyring: Keyring, clock: Clock
) -> None:
    clock.now = datetime(2026, 9, 3, tzinfo=UTC)
    key = make(keyring, limit=1, tier="starter")
    store.consume(key, Api.VIN)
    with pytest.raises(errors.LimitExceeded) as refused:
        store.consume(key, Api.VIN)
    assert refused.value.status == 429
    assert refused.value.message == (
        "API limit exceeded for vin_optical_character_recognition (9/2026). Subscription tier: starter. "
        "Current usage: 1, Limit: 1. Enable overage billing in your dashboard billing preferences to "
        "continue with overage charges"
    )
    assert refused.value.extra == {"usage": {"current": 1, "limit": 1, "remaining": 0}}


def test_a_lifetime_allowance_is_not_renewed_each_month(
    store: MeterStore, keyring: Keyring, clock: Clock
) -> None:
    key, _ = keyring.create(owner="o", tier="sandbox", limits={Api.PLATE: 2})
    store.consume(key, Api.PLATE)
    clock.now = DECEMBER
    assert store.consume(key, Api.PLATE).current == 2
    with pytest.raises(errors.LimitExceeded) as refused:
        store.consume(key, Api.PLATE)
    assert refused.value.message == (
        "API limit exceeded for plate_image_recognition (12/2026). Subscription tier: sandbox. "
        "Current usage: 2, Limit: 2. Please upgrade your tier to continue using the API."
    )


def test_overage_is_served_and_counted(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=2, overage=True)
    usages = [store.consume(key, Api.PLATE) for _ in range(5)]
    assert (usages[-1].current, usages[-1].remaining) == (5, 0)
    keyring.set(key_id(key), overage=False)
    with pytest.raises(errors.LimitExceeded) as refused:
        store.consume(key, Api.PLATE)
    assert refused.value.usage.current == 5


def test_a_limit_of_zero_refuses_everything(store: MeterStore, keyring: Keyring, clock: Clock) -> None:
    key = make(keyring, limit=0)
    for now in (NOVEMBER, DECEMBER):
        clock.now = now
        with pytest.raises(errors.LimitExceeded):
            store.consume(key, Api.PLATE)


# -- giving back ---------------------------------------------------------------------------------------------


def test_a_unit_given_back_can_be_used_again(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=1)
    for _ in range(3):
        assert store.consume_by_id(key_id(key), Api.PLATE, "upload").remaining == 0
        store.refund(key_id(key), Api.PLATE, "upload")
        assert usage_of(keyring, key).remaining == 1


def test_a_unit_is_given_back_only_once(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=2)
    store.consume(key, Api.PLATE)
    store.consume_by_id(key_id(key), Api.PLATE, "upload")
    for _ in range(2):
        store.refund(key_id(key), Api.PLATE, "upload")
    assert usage_of(keyring, key).current == 1


def test_a_unit_is_given_back_in_the_month_it_was_counted_in(
    store: MeterStore, keyring: Keyring, clock: Clock
) -> None:
    key = make(keyring, limit=5)
    store.consume(key, Api.PLATE)
    store.consume_by_id(key_id(key), Api.PLATE, "upload")
    clock.now = DECEMBER
    store.consume(key, Api.PLATE)
    store.refund(key_id(key), Api.PLATE, "upload")
    account = keyring.show(key_id(key))
    assert account.history == (PastUsage(Api.PLATE, "2026-11", used=1, limit=5, tier="pro"),)
    assert usage_of(keyring, key).current == 1


def test_a_unit_of_a_rotated_key_goes_back_to_its_successor(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=5)
    store.consume(key, Api.PLATE)
    store.consume_by_id(key_id(key), Api.PLATE, "upload")
    new, _ = keyring.rotate(key_id(key))
    assert usage_of(keyring, new).current == 2
    store.refund(key_id(key), Api.PLATE, "upload")
    assert usage_of(keyring, new).current == 1


# -- several units under one ticket --------------------------------------------------------------------------


def test_units_for_several_photos_are_taken_and_closed_together(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=100)
    grant = store.take(key_id(key), Api.PLATE, 50, "child-1")
    assert (grant.units, grant.usage.current) == (50, 50)
    again = store.take(key_id(key), Api.PLATE, 50, "child-1")
    assert (again.units, usage_of(keyring, key).current) == (50, 50)
    for _ in range(2):
        store.close(grant, read=37)
    assert usage_of(keyring, key).current == 37
    assert store.consume(key, Api.PLATE).remaining == 62


def test_no_more_units_are_granted_than_are_left(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=70)
    grants = [store.take(key_id(key), Api.PLATE, 50, f"child-{n}") for n in range(2)]
    assert [grant.units for grant in grants] == [50, 20]
    with pytest.raises(errors.LimitExceeded):
        store.take(key_id(key), Api.PLATE, 50, "child-2")
    assert store.take(key_id(key), Api.PLATE, 50, "child-1").units == 20
    store.close(grants[1], read=0)
    assert store.take(key_id(key), Api.PLATE, 5, "child-3").units == 5
    assert usage_of(keyring, key).current == 55


def test_overage_grants_every_unit(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=10, overage=True)
    assert store.take(key_id(key), Api.PLATE, 50, "child").units == 50


def test_units_of_a_past_month_are_refunded_there(store: MeterStore, keyring: Keyring, clock: Clock) -> None:
    key = make(keyring, limit=100)
    grant = store.take(key_id(key), Api.PLATE, 50, "child-1")
    clock.now = DECEMBER
    assert store.take(key_id(key), Api.PLATE, 120, "child-2").units == 100
    for _ in range(2):
        store.close(grant, read=10)
    account = keyring.show(key_id(key))
    assert account.history == (PastUsage(Api.PLATE, "2026-11", used=10, limit=100, tier="pro"),)
    assert usage_of(keyring, key).current == 100


def test_concurrent_children_are_granted_what_is_left(
    table: str, dynamodb: DynamoDBClient, keyring: Keyring
) -> None:
    key = make(keyring, limit=333)
    store = MeterStore(table, dynamodb, Clock(NOVEMBER))

    def child(number: int) -> int:
        try:
            grant = store.take(key_id(key), Api.PLATE, 50, f"child-{number}")
        except errors.LimitExceeded:
            return 0
        store.close(grant, read=grant.units - number % 3)
        return grant.units - number % 3

    with ThreadPoolExecutor(8) as pool:
        read = sum(pool.map(child, range(40)))
    assert usage_of(keyring, key).current == read <= 333
    item = dynamodb.get_item(
        TableName=table, Key={"pk": {"S": partition(key_id(key))}, "sk": {"S": "API#plate"}}
    )["Item"]
    assert [name for name in item if ":" in name] == []


# -- rotation ------------------------------------------------------------------------------------------------


def test_a_key_used_for_years_can_be_rotated_repeatedly(
    store: MeterStore, keyring: Keyring, clock: Clock, dynamodb: DynamoDBClient, table: str
) -> None:
    clock.now = datetime(2023, 1, 5, tzinfo=UTC)
    key = first = make(keyring, limit=100)
    months = 0
    for year in (2023, 2024, 2025, 2026):
        for month in range(1, 13):
            clock.now = datetime(year, month, 5, tzinfo=UTC)
            store.consume(key, Api.PLATE)
            store.consume(key, Api.VIN)
            months += 1
    before = keyring.show(key_id(key)).history
    assert len(before) == 2 * (months - 1)
    for rotation in range(1, 5):
        key, account = keyring.rotate(key_id(key))
        assert account.history == store.account(key).history == before
        assert account.profile.account == key_id(first)
        assert store.consume(key, Api.PLATE).current == 1 + rotation
    assert [one.history for one in keyring.accounts()] == [before]
    items = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": partition(key_id(key))}},
    )["Items"]
    assert {item["sk"]["S"] for item in items} == {"PROFILE", "API#plate", "API#vin"}


def test_work_of_a_rotated_key_is_charged_to_the_current_key(
    store: MeterStore, keyring: Keyring, clock: Clock
) -> None:
    first = make(keyring, limit=10)
    store.consume_by_id(key_id(first), Api.PLATE, "upload-1")
    grant = store.take(key_id(first), Api.PLATE, 5, "child-1")
    second, _ = keyring.rotate(key_id(first))
    third, _ = keyring.rotate(key_id(second))
    for old in (first, second):
        with pytest.raises(errors.UnknownKey):
            store.consume(old, Api.PLATE)
        assert store.consume_by_id(key_id(old), Api.PLATE, "upload-1").current == 6
    store.close(grant, read=2)
    assert usage_of(keyring, third).current == 3
    store.consume_by_id(key_id(second), Api.PLATE, "upload-2")
    store.refund(key_id(first), Api.PLATE, "upload-1")
    assert usage_of(keyring, third).current == 3
    clock.now = DECEMBER
    store.consume(third, Api.PLATE)
    store.refund(key_id(first), Api.PLATE, "upload-2")
    assert [past.used for past in keyring.show(key_id(third)).history] == [2]


def test_an_account_leads_to_the_current_key_in_one_step(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    key = first = make(keyring, limit=10)
    for _ in range(12):
        key, _ = keyring.rotate(key_id(key))
    client = Broken(client_error("never"), dynamodb, failures=0)
    MeterStore(table, client, clock).consume_by_id(key_id(first), Api.PLATE, "upload")  # type: ignore[arg-type]
    assert client.calls == 2
    assert usage_of(keyring, key).current == 1


def test_no_settled_ticket_remains_after_a_rotation(
    store: MeterStore, keyring: Keyring, dynamodb: DynamoDBClient, table: str
) -> None:
    key = make(keyring, limit=10)
    store.consume_by_id(key_id(key), Api.PLATE, "upload")
    new, _ = keyring.rotate(key_id(key))
    store.settle(key_id(key), Api.PLATE, ["upload"])
    assert usage_of(keyring, new).current == 1
    for item in dynamodb.scan(TableName=table)["Items"]:
        assert not [name for name in item if name.startswith("ticket:")]


def test_a_key_can_be_rotated_while_a_batch_holds_units(
    store: MeterStore,
    keyring: Keyring,
    dynamodb: DynamoDBClient,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DynamoDB takes 300 operators in an expression, and 4 KB of it, which no embedded store does."""
    key = make(keyring, limit=10_000)
    grant = store.take(key_id(key), Api.PLATE, 50, "child-0")
    others = {f"#{kind}{n}": f"{kind}:child-{n}" for n in range(1, 90) for kind in ("ticket", "units")}
    dynamodb.update_item(
        TableName=table,
        Key={"pk": {"S": partition(key_id(key))}, "sk": {"S": "API#plate"}},
        UpdateExpression="SET " + ", ".join(f"{name} = :value" for name in others),
        ExpressionAttributeNames=others,
        ExpressionAttributeValues={":value": {"S": "2026-11"}},
    )
    transact = dynamodb.transact_write_items
    tries = 0

    def checked(*, TransactItems: Any) -> Any:  # noqa: N803
        nonlocal tries
        for write in (write for item in TransactItems for write in item.values()):
            condition = write.get("ConditionExpression", "")
            assert condition.count("=") + condition.count(" AND ") <= 300
            assert len(condition) <= 4096
        if (tries := tries + 1) < 3:  # between reading the meter and moving it
            store.consume(key, Api.PLATE)
        return transact(TransactItems=TransactItems)

    monkeypatch.setattr(dynamodb, "transact_write_items", checked)
    new, account = keyring.rotate(key_id(key))
    assert (tries, account.usage[0].current) == (3, 52)
    store.close(grant, read=40)
    assert usage_of(keyring, new).current == 42


@pytest.mark.parametrize("name", ["", "no such key"])
def test_an_empty_name_finds_no_key(keyring: Keyring, name: str) -> None:
    make(keyring, limit=1)
    with pytest.raises(KeyringError):
        keyring.find(name)


def test_a_whole_prefix_is_not_the_beginning_of_another_name(keyring: Keyring) -> None:
    """Such as that of the key ``demo`` of ``make run``, which is a single letter."""
    keyring.create(owner="owner@example.com", tier="pro", key="demo")
    other = key_id("other-18")
    assert other.startswith("d")
    keyring.create(owner="owner@example.com", tier="pro", key="other-18")
    assert keyring.find("d") == key_id("demo")
    assert keyring.find(other[:8]) == other


# -- the month's turn ----------------------------------------------------------------------------------------


def test_a_new_month_starts_at_one_and_keeps_the_old(
    store: MeterStore, keyring: Keyring, clock: Clock, dynamodb: DynamoDBClient, table: str
) -> None:
    key = make(keyring, limit=2)
    store.consume(key, Api.PLATE)
    store.consume(key, Api.PLATE)
    clock.now = DECEMBER
    seen = store.account(key)
    assert [(usage.period, usage.current) for usage in seen.usage] == [("2026-12", 0), ("2026-12", 0)]
    assert seen.history == (PastUsage(Api.PLATE, "2026-11", 2, 2, "pro"),)
    usage = store.consume(key, Api.PLATE)
    assert (usage.period, usage.current, usage.remaining) == ("2026-12", 1, 1)
    assert store.account(key).history == (PastUsage(Api.PLATE, "2026-11", 2, 2, "pro"),)
    item = dynamodb.get_item(
        TableName=table, Key={"pk": {"S": partition(key_id(key))}, "sk": {"S": "USAGE#plate#2026-11"}}
    )["Item"]
    assert int(item["expires"]["N"]) > DECEMBER.timestamp() + 365 * 86_400


def test_a_slow_clock_counts_in_the_later_month(store: MeterStore, keyring: Keyring, clock: Clock) -> None:
    clock.now = DECEMBER
    key = make(keyring, limit=3)
    store.consume(key, Api.PLATE)
    clock.now = NOVEMBER
    assert store.consume(key, Api.PLATE).period == "2026-12"
    assert usage_of(keyring, key).current == 2


# -- many at once --------------------------------------------------------------------------------------------


def outcomes(calls: list[Callable[[], Any]]) -> Counter[str]:
    """How many of ``calls``, made at the same time, end in each way."""

    def outcome(call: Callable[[], Any]) -> str:
        try:
            call()
        except errors.ServiceError as error:
            return type(error).__name__
        return "served"

    with ThreadPoolExecutor(32) as pool:
        return Counter(pool.map(outcome, calls))


def count_and_refund(store: MeterStore, key: str, ticket: str) -> None:
    store.consume_by_id(key_id(key), Api.PLATE, ticket)
    store.refund(key_id(key), Api.PLATE, ticket)


@pytest.mark.parametrize("repetition", range(10))
def test_refunds_across_a_new_month_leave_only_what_was_served(
    table: str, dynamodb: DynamoDBClient, repetition: int
) -> None:
    before = MeterStore(table, dynamodb, Clock(NOVEMBER))
    after = MeterStore(table, dynamodb, Clock(DECEMBER))
    keyring = Keyring(table, dynamodb, Clock(NOVEMBER))
    key = make(keyring, limit=500)
    for number in range(20):
        before.consume_by_id(key_id(key), Api.PLATE, f"before-{number}")
    served: list[Usage] = []
    calls: list[Callable[[], Any]] = [
        *(partial(before.refund, key_id(key), Api.PLATE, f"before-{number}") for number in range(20)),
        *[lambda: served.append(before.consume(key, Api.PLATE))] * 20,
        *[lambda: served.append(after.consume(key, Api.PLATE))] * 20,
        *(partial(count_and_refund, after, key, f"after-{number}") for number in range(20)),
    ]
    random.Random(repetition).shuffle(calls)
    assert outcomes(calls) == {"served": 80}
    by_period = Counter(usage.period for usage in served)
    december = usage_of(keyring, key)
    past = {usage.period: usage.used for usage in keyring.show(key_id(key)).history}
    assert (december.period, december.current) == ("2026-12", by_period["2026-12"])
    assert past.get("2026-11", 0) == by_period["2026-11"]


def test_a_key_can_be_rotated_while_it_is_used(store: MeterStore, keyring: Keyring) -> None:
    key = make(keyring, limit=500)
    served: list[Usage] = []
    with ThreadPoolExecutor(4) as pool:
        requests = [pool.submit(lambda: served.append(store.consume(key, Api.PLATE))) for _ in range(60)]
        new, _ = keyring.rotate(key_id(key))
        refused = [error for request in requests if (error := request.exception())]
    assert {type(error) for error in refused} <= {errors.UnknownKey}
    assert usage_of(keyring, new).current == len(served) == 60 - len(refused)


# -- a table that does not answer ----------------------------------------------------------------------------


class Broken:
    """A DynamoDB client of which every call fails, or the first ``failures`` do."""

    def __init__(self, error: Exception, client: DynamoDBClient, failures: int = 1_000) -> None:
        self.error = error
        self.client = client
        self.failures = failures
        self.calls = 0

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.calls += 1
            if self.calls <= self.failures:
                raise self.error
            return getattr(self.client, operation)(**arguments)

        return call


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "UpdateItem")


UNREACHABLE = {
    "throttled": client_error("ThrottlingException"),
    "over the throughput": client_error("ProvisionedThroughputExceededException"),
    "a fault of DynamoDB's": client_error("InternalServerError"),
    "no such table": client_error("ResourceNotFoundException"),
    "not allowed": client_error("AccessDeniedException"),
    "no connection": EndpointConnectionError(endpoint_url="https://dynamodb"),
    "no connection in time": ConnectTimeoutError(endpoint_url="https://dynamodb"),
    "no answer in time": ReadTimeoutError(endpoint_url="https://dynamodb"),
}


@pytest.mark.parametrize("error", UNREACHABLE.values(), ids=UNREACHABLE.keys())
def test_without_the_table_nothing_is_served(dynamodb: DynamoDBClient, error: Exception) -> None:
    store = MeterStore("unused", Broken(error, dynamodb))  # type: ignore[arg-type]
    for ask in (lambda: store.consume("key", Api.PLATE), lambda: store.account("key")):
        with pytest.raises(errors.StoreUnavailable) as refused:
            ask()
        assert refused.value.status == 503
        assert refused.value.message == "Cannot access the internet at this time"


def test_an_unreachable_server_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(errors.StoreUnavailable):
        MeterStore("unused", Clients().meters).consume("key", Api.PLATE)
    with pytest.raises(errors.StoreUnavailable):
        MeterStore("unused", Clients().metering).consume("key", Api.PLATE)


def test_brief_throttling_is_retried(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    key = make(keyring, limit=5)
    client = Broken(UNREACHABLE["throttled"], dynamodb, failures=2)
    assert MeterStore(table, client, clock).consume(key, Api.PLATE).current == 1  # type: ignore[arg-type]


# -- a write of which nobody knows whether it was made -------------------------------------------------------


class Lossy:
    """A DynamoDB client whose writes get lost: each of ``fates`` is one's, and those that follow succeed.

    ``before``: it never arrives. ``after``: it is made, and its answer is lost. ``late``: it is made only
    when ``land`` is called, long after the client has given up.
    """

    def __init__(self, client: DynamoDBClient, *fates: str) -> None:
        self.client = client
        self.fates = list(fates)
        self.late: list[Callable[[], Any]] = []
        self.calls: Counter[str] = Counter()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.calls[operation] += 1
            write = partial(getattr(self.client, operation), **arguments)
            fate = self.fates.pop(0) if self.fates and operation == "update_item" else ""
            if not fate:
                return write()
            if fate == "after":
                with suppress(self.client.exceptions.ConditionalCheckFailedException):
                    write()
            if fate == "late":
                self.late.append(write)
            raise UNREACHABLE["no answer in time"]

        return call

    def land(self) -> None:
        """Let the late writes arrive."""
        for write in self.late:
            with suppress(self.client.exceptions.ConditionalCheckFailedException):
                write()
        self.late.clear()


LOST = ("before", "after", "late")


@pytest.mark.parametrize("fate", LOST)
@pytest.mark.parametrize("others", [0, 1])
def test_a_write_without_a_response_is_repeated_and_counts_once(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, fate: str, others: int
) -> None:
    key = make(keyring, limit=5)
    client = Lossy(dynamodb)
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    for _ in range(others):
        store.consume(key, Api.PLATE)
    client.fates = [fate]
    assert store.consume(key, Api.PLATE).current == 1 + others
    client.land()
    assert usage_of(keyring, key).current == 1 + others
    assert store.consume(key, Api.PLATE).current == 2 + others


@pytest.mark.parametrize("fates", [*itertools.product(LOST, LOST)])
def test_a_call_whose_counting_is_in_doubt_costs_nothing(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, fates: tuple[str, str]
) -> None:
    key = make(keyring, limit=5)
    client = Lossy(dynamodb, *fates)
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    with pytest.raises(errors.StoreUnavailable):
        store.consume(key, Api.PLATE)
    assert usage_of(keyring, key).current == 0
    client.land()
    assert usage_of(keyring, key).current == 0
    assert store.consume(key, Api.PLATE).current == 1


@pytest.mark.parametrize("fate", LOST)
@pytest.mark.parametrize("undo", LOST)
def test_a_failed_undo_is_done_by_the_next_call(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, fate: str, undo: str
) -> None:
    key, other = make(keyring, limit=5), make(keyring, limit=5)
    client = Lossy(dynamodb, fate, "before", undo)
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    with pytest.raises(errors.StoreUnavailable):
        store.consume(key, Api.PLATE)
    assert store.consume(other, Api.PLATE).current == 1
    client.land()
    assert usage_of(keyring, key).current == 0


def test_a_long_failed_undo_is_not_hidden_by_later_calls(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    key = make(keyring, limit=9)
    client = Lossy(dynamodb, "after", "before", "before", "before")
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    with pytest.raises(errors.StoreUnavailable):
        store.consume(key, Api.PLATE)
    assert store.consume(key, Api.PLATE).current == 2  # the lost one is still counted
    assert store.consume(key, Api.PLATE).current == 2
    assert usage_of(keyring, key).current == 2


def test_a_lost_write_is_not_repeated_without_time_for_it(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    key = make(keyring, limit=5)
    client = Lossy(dynamodb, "after")
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    with pytest.raises(errors.StoreUnavailable):
        store.consume(key, Api.PLATE, until=time.monotonic() + 1)
    assert (client.calls["update_item"], usage_of(keyring, key).current) == (1, 1)
    assert store.consume(key, Api.PLATE).current == 1


@pytest.mark.parametrize("fate", ["after", "late"])
def test_a_lost_call_is_undone_in_its_month(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, fate: str
) -> None:
    key = make(keyring, limit=5)
    client = Lossy(dynamodb)
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    store.consume(key, Api.PLATE)
    client.fates = [fate]
    with pytest.raises(errors.StoreUnavailable):
        store.consume(key, Api.PLATE, until=time.monotonic() + 1)
    client.land()
    clock.now = DECEMBER
    MeterStore(table, dynamodb, clock).consume(key, Api.PLATE)
    assert store.consume(key, Api.PLATE).current == 2
    assert [past.used for past in keyring.show(key_id(key)).history] == [1]


def test_a_lost_call_is_undone_for_the_current_key(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    key, other = make(keyring, limit=5), make(keyring, limit=5)
    client = Lossy(dynamodb, "after")
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    with pytest.raises(errors.StoreUnavailable):
        store.consume(key, Api.PLATE, until=time.monotonic() + 1)
    new, _ = keyring.rotate(key_id(key))
    store.consume(other, Api.PLATE)
    assert usage_of(keyring, new).current == 0


def marks(dynamodb: DynamoDBClient, table: str, key: str) -> list[str]:
    item = dynamodb.get_item(
        TableName=table, Key={"pk": {"S": partition(key_id(key))}, "sk": {"S": "API#plate"}}
    )["Item"]
    return [name for name in item if ":" in name]


def test_calls_of_a_dead_process_are_undone_by_the_next(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, tmp_path: Path
) -> None:
    """The first call of a process is answered, in the second it is killed once the unit is counted."""
    key, other = make(keyring, limit=5), make(keyring, limit=5)
    program = f"""
import os
from datetime import datetime
from pathlib import Path
from carsight_service.aws.clients import Clients
from carsight_service.contract.api import Api
from carsight_service.metering.journal import Journal
from carsight_service.metering.meter_store import MeterStore
journal = Journal(Path({str(tmp_path)!r}), {table!r})
now = datetime.fromisoformat({clock.now.isoformat()!r})
store = MeterStore({table!r}, Clients().metering, lambda: now, journal)
store.consume({key!r}, Api.PLATE)
store.answered()
store.consume({key!r}, Api.PLATE)
os.kill(os.getpid(), 9)
"""
    alive = MeterStore(table, dynamodb, clock, Journal(tmp_path, table))
    alive.consume(other, Api.PLATE)  # has noted this, and is not dead
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert (killed.returncode, usage_of(keyring, key).current) == (-9, 2)
    MeterStore(table, dynamodb, clock, Journal(tmp_path, "another table")).consume(other, Api.PLATE)
    assert usage_of(keyring, key).current == 2
    for _ in range(2):
        MeterStore(table, dynamodb, clock, Journal(tmp_path, table)).consume(other, Api.PLATE)
        assert usage_of(keyring, key).current == 1
    assert usage_of(keyring, other).current == 4
    del alive
    gc.collect()
    assert len(marks(dynamodb, table, key)) == 1  # of the dead: its write may still be on its way
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    "note", ["", "nonsense", "a b c d e", f"{'a' * 64} plate used 1 2026-11", "\0" * 300]
)
def test_a_broken_journal_is_ignored(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, tmp_path: Path, note: str
) -> None:
    key = make(keyring, limit=5)
    named = Journal(tmp_path, table)
    named.open("somebody")
    left = tmp_path / f"{next(tmp_path.iterdir()).name[:16]}-dead"
    left.write_text("dead".ljust(256, "\0") + note, encoding="ascii")
    store = MeterStore(table, dynamodb, clock, Journal(tmp_path, table))
    assert store.consume(key, Api.PLATE).current == 1


def test_without_a_folder_calls_are_counted_without_a_journal(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock, tmp_path: Path
) -> None:
    key = make(keyring, limit=5)
    (tmp_path / "a file").touch()
    for folder in (tmp_path / "a file", tmp_path / "no" / "folder"):
        store = MeterStore(table, dynamodb, clock, Journal(folder, table))
        store.consume(key, Api.PLATE)
        store.answered()
    assert usage_of(keyring, key).current == 2


def bytes_of(value: Any) -> int:
    """What DynamoDB counts an attribute's value as."""
    kind, content = next(iter(value.items()))
    size = {"BOOL": 1, "N": len(str(content)) // 2 + 2}.get(kind, len(str(content)))
    return int(size)


def test_marks_of_calls_are_limited_and_removed(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    """However many processes have served a key, its meter stays within the 1 KB that one write unit pays."""
    key = make(keyring, limit=500)
    for _ in range(60):
        store = MeterStore(table, dynamodb, clock)
        store.admit(key, Api.PLATE)
        for _ in range(2):
            store.consume(key, Api.PLATE)
    assert len(marks(dynamodb, table, key)) == 32
    item = dynamodb.get_item(
        TableName=table, Key={"pk": {"S": partition(key_id(key))}, "sk": {"S": "API#plate"}}
    )["Item"]
    assert sum(len(name) + bytes_of(value) for name, value in item.items()) < 1024
    clock.now += timedelta(minutes=2)
    for _ in range(5):
        store.admit(key, Api.PLATE)
        store.consume(key, Api.PLATE)
    assert len(marks(dynamodb, table, key)) <= 17


# -- before a photo is read ----------------------------------------------------------------------------------


def test_a_busy_key_takes_one_write_per_call_and_no_read(
    keyring: Keyring, table: str, dynamodb: DynamoDBClient, clock: Clock
) -> None:
    key = make(keyring, limit=500)
    client = Lossy(dynamodb)
    store = MeterStore(table, client, clock)  # type: ignore[arg-type]
    for _ in range(10):
        store.admit(key, Api.PLATE)
        store.consume(key, Api.PLATE)
    assert client.calls == {"get_item": 1, "update_item": 10}
    for _ in range(10):
        store.admit(key, Api.PLATE)  # as for a photo that shows nothing: no write
    assert client.calls == {"get_item": 1, "update_item": 10}


@pytest.mark.parametrize("limit", [1, 200])
def test_a_key_blocked_while_reading_is_not_counted(
    store: MeterStore, keyring: Keyring, clock: Clock, limit: int
) -> None:
    key = make(keyring, limit=limit)
    assert store.admit(key, Api.PLATE).current == 0
    keyring.set(key_id(key), status=Status.BLOCKED)
    with pytest.raises(errors.BlockedKey):
        store.consume(key, Api.PLATE)
    with pytest.raises(errors.BlockedKey):
        store.admit(key, Api.PLATE)
    keyring.set(key_id(key), status=Status.ACTIVE, limits={Api.PLATE: 0})
    clock.now = DECEMBER
    with pytest.raises(errors.LimitExceeded) as refused:
        store.admit(key, Api.PLATE)
    assert refused.value.usage.period == "2026-12"


def test_a_new_month_admits_requests_after_an_exhausted_one(
    store: MeterStore, keyring: Keyring, clock: Clock
) -> None:
    key = make(keyring, limit=1)
    store.consume(key, Api.PLATE)
    with pytest.raises(errors.LimitExceeded):
        store.admit(key, Api.PLATE)
    clock.now = DECEMBER
    usage = store.admit(key, Api.PLATE)
    assert (usage.period, usage.current, usage.remaining) == ("2026-12", 0, 1)
