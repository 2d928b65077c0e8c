"""Two hundred requests at once against an allowance of fifty: exact every time, through the endpoint."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from carsight_service import reading
from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import LimitExceeded, NothingFound
from carsight_service.http.endpoint import Endpoint
from carsight_service.metering.model import key_id, partition
from tests.events import Invocation, event
from tests.fakes import BODY, NOW, PHOTO, PLATES, Reply, Service, deploy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LIMIT, REQUESTS = 50, 200


@pytest.fixture
def service(table: str, dynamodb: DynamoDBClient) -> Service:
    """The service over the embedded stores: in this process, moto would let conditional writes race."""
    return Service(table, dynamodb)


def ask_at_once(service: Service, key: str, failing: Iterable[bool] = (False,)) -> list[Reply]:
    """The answers to ``REQUESTS`` requests made at once; ``failing``, repeated, says which hold no plate."""
    fails = itertools.cycle(failing)

    def recognize(image: bytes, regions: Sequence[str]) -> Answer:
        if next(fails):
            raise NothingFound(Api.PLATE)
        return PLATES

    endpoint = Endpoint(service.deployment, Api.PLATE, recognize)

    def ask(_: int) -> Reply:
        sent = event(BODY, query=f"key={key}")
        return Reply.of(endpoint.handle(sent, Invocation()))

    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(ask, range(REQUESTS)))


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


@pytest.mark.parametrize("repetition", range(10))
def test_a_limit_of_50_answers_50_of_200(service: Service, repetition: int) -> None:
    key = service.key(limits={Api.PLATE: LIMIT}, overage=False)
    replies = ask_at_once(service, key)
    assert statuses(replies) == {200: LIMIT, 429: REQUESTS - LIMIT}
    assert sorted(reply.headers["x-usage-current"] for reply in replies if reply.status == 200) == sorted(
        str(count) for count in range(1, LIMIT + 1)
    )
    assert service.used(key, Api.PLATE) == LIMIT


@pytest.mark.parametrize("repetition", range(10))
def test_each_month_s_50_are_answered_when_the_month_turns_between_them(
    service: Service, repetition: int
) -> None:
    key = service.key(limits={Api.PLATE: LIMIT}, overage=False)
    asked = itertools.count()

    def clock() -> datetime:
        midnight = datetime(2026, 4, 1, tzinfo=UTC)
        return midnight - timedelta(seconds=next(asked) < REQUESTS // 2)

    service.deployment = deploy(service.table, service.client, clock)
    replies = ask_at_once(service, key)
    account = service.keyring.show(key_id(key))
    before = {past.period: past.used for past in account.history}.get("2026-03", 0)
    after = next(usage for usage in account.usage if usage.api is Api.PLATE)
    assert (after.period, after.current) == ("2026-04", LIMIT)
    assert before <= LIMIT
    assert statuses(replies) == {200: before + LIMIT, 429: REQUESTS - before - LIMIT}


@pytest.mark.parametrize("limit", [1, 20])
def test_photos_that_cost_nothing_refuse_none_that_can_be_paid(
    service: Service, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many readable photos as units are left, among twice as many without a plate, all at once."""
    monkeypatch.setattr(reading, "PATIENCE", 25.0)  # however slow this machine is just now
    key = service.key(limits={Api.PLATE: limit}, overage=False)
    kinds = [False] * limit + [True] * (2 * limit)
    random.Random(limit).shuffle(kinds)

    def recognize(image: bytes, regions: Sequence[str]) -> Answer:
        time.sleep(0.05)
        if image.endswith(b"nothing"):
            raise NothingFound(Api.PLATE)
        return PLATES

    endpoint = Endpoint(service.deployment, Api.PLATE, recognize)

    def ask(empty: bool) -> int:
        body = PHOTO + b" nothing" if empty else PHOTO
        sent = event(body, "image/jpeg", query=f"key={key}")
        return Reply.of(endpoint.handle(sent, Invocation())).status

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(ask, kinds))
    assert [status for status, empty in zip(answered, kinds, strict=True) if not empty] == [200] * limit
    assert service.used(key, Api.PLATE) == limit
    assert service.store.consume(service.key(), Api.PLATE).current == 1
    item = service.client.get_item(
        TableName=service.table, Key={"pk": {"S": partition(key_id(key))}, "sk": {"S": "API#plate"}}
    )["Item"]
    assert [name for name in item if ":" in name] == []


def test_a_call_that_died_near_the_limit_gives_its_unit_to_the_next(service: Service) -> None:
    key = service.key(limits={Api.PLATE: 2}, overage=False)
    service.store.consume(key, Api.PLATE, patience=1)
    service.store.consume(key, Api.PLATE, patience=1)
    start = time.monotonic()
    with pytest.raises(LimitExceeded):  # they may still be answered
        service.store.consume(key, Api.PLATE, patience=0.5)
    assert time.monotonic() - start > 0.4
    later = deploy(service.table, service.client, lambda: NOW + timedelta(minutes=2)).meters
    for _ in range(2):
        usage = later.consume(key, Api.PLATE, patience=1)
        later.settle(usage.key_id, Api.PLATE, [usage.ticket])
    start = time.monotonic()
    with pytest.raises(LimitExceeded):  # nothing is open: no waiting
        later.consume(key, Api.PLATE, patience=10)
    assert time.monotonic() - start < 5
    assert service.used(key, Api.PLATE) == 2


@pytest.mark.parametrize("repetition", range(10))
def test_what_failed_is_given_back_and_leaves_room(service: Service, repetition: int) -> None:
    key = service.key(limits={Api.PLATE: LIMIT}, overage=False)
    replies = ask_at_once(service, key, failing=(True, False, True))
    counts = statuses(replies)
    assert set(counts) <= {200, 404, 429}
    assert service.used(key, Api.PLATE) == counts[200] <= LIMIT
    left = LIMIT - counts[200]
    assert statuses(ask_at_once(service, key)) == Counter({200: left, 429: REQUESTS - left})
    assert service.used(key, Api.PLATE) == LIMIT
