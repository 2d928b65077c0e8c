"""Two hundred requests at once against an allowance of fifty: exact every time, through the endpoint.

Each race is run over the embedded stores and, more often, over ``FakeDynamo``, where threads really race;
``python -m benchmarks.counting races`` runs a hundred of each.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import NothingFound, ServiceError
from carsight_service.http.endpoint import Endpoint
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.model import Grant, Usage, key_id
from tests.dynamo import FakeDynamo
from tests.events import Invocation, event
from tests.fakes import PHOTO, PLATES, Reply, Service, deploy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LIMIT, REQUESTS = 50, 200

USAGE = Usage(Api.PLATE, "", "", "pro", "2026-03", current=0, limit=0, overage=False)


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def service(repetition: int, request: pytest.FixtureRequest) -> Service:
    """The service over a store; each race that uses it is repeated."""
    if repetition == 0:
        return Service(request.getfixturevalue("table"), request.getfixturevalue("dynamodb"))
    return Service("carsight-races", fake(FakeDynamo(seed=repetition, pause=0.002)))


def fake(client: FakeDynamo) -> DynamoDBClient:
    return cast("DynamoDBClient", client)


repeated = pytest.mark.parametrize("repetition", range(11), indirect=True)


def ask_at_once(service: Service, key: str, costs: Iterable[bool] = (True,)) -> list[Reply]:
    """The answers to ``REQUESTS`` requests made at once; ``costs``, repeated, says which show a plate."""

    def recognize(image: bytes, regions: Sequence[str]) -> Answer:
        if image.endswith(b"nothing"):
            raise NothingFound(Api.PLATE)
        return PLATES

    endpoint = Endpoint(service.deployment, Api.PLATE, recognize)

    def ask(costs: bool) -> Reply:
        sent = event(PHOTO if costs else PHOTO + b" nothing", "image/jpeg", query=f"key={key}")
        return Reply.of(endpoint.handle(sent, Invocation()))

    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(ask, itertools.islice(itertools.cycle(costs), REQUESTS)))


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


@repeated
def test_a_limit_of_50_answers_50_of_200(service: Service) -> None:
    key = service.key(limits={Api.PLATE: LIMIT}, overage=False)
    replies = ask_at_once(service, key)
    assert statuses(replies) == {200: LIMIT, 429: REQUESTS - LIMIT}
    assert sorted(reply.headers["x-usage-current"] for reply in replies if reply.status == 200) == sorted(
        str(count) for count in range(1, LIMIT + 1)
    )
    assert service.used(key, Api.PLATE) == LIMIT


@repeated
def test_each_month_s_50_are_answered_across_a_new_month(service: Service) -> None:
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


@repeated
def test_unreadable_photos_take_no_units_from_readable_ones(service: Service, repetition: int) -> None:
    """As many readable photos as units are left, among three times as many that show no plate."""
    key = service.key(limits={Api.PLATE: LIMIT}, overage=False)
    costs = [True] * LIMIT + [False] * (REQUESTS - LIMIT)
    random.Random(repetition).shuffle(costs)
    replies = ask_at_once(service, key, costs)
    assert [reply.status for reply, cost in zip(replies, costs, strict=True) if cost] == [200] * LIMIT
    assert statuses(replies).keys() <= {200, 404, 429}
    assert service.used(key, Api.PLATE) == LIMIT


@repeated
def test_failed_requests_are_not_counted(service: Service) -> None:
    key = service.key(limits={Api.PLATE: LIMIT}, overage=False)
    replies = ask_at_once(service, key, costs=(False, True, False))
    counts = statuses(replies)
    assert set(counts) <= {200, 404, 429}
    assert service.used(key, Api.PLATE) == counts[200] <= LIMIT
    left = LIMIT - counts[200]
    assert statuses(ask_at_once(service, key)) == Counter({200: left, 429: REQUESTS - left})
    assert service.used(key, Api.PLATE) == LIMIT


@pytest.mark.parametrize("seed", range(4))
def test_lost_and_late_writes_count_only_200s(seed: int) -> None:
    """One write of eight never arrives, or its answer does not, or it arrives long after it was given up."""
    client = FakeDynamo(seed=seed, lose=0.125)
    service = Service("carsight-late", fake(client))
    key = service.key(limits={Api.PLATE: 150}, overage=False)
    replies = ask_at_once(service, key)
    assert statuses(replies).keys() == {200, 429, 503}
    answered = statuses(replies)[200]
    client.lose = 0
    service.store.consume(service.key(), Api.PLATE)  # undoes what could not be undone at once
    client.land()
    assert service.used(key, Api.PLATE) == answered == 150


@pytest.mark.parametrize("seed", range(20))
def test_the_fake_store_behaves_like_the_embedded_one(
    table: str, dynamodb: DynamoDBClient, seed: int
) -> None:
    """The same random work on both: the same outcomes, and in the end the same items."""
    client = FakeDynamo()
    outcomes: list[list[Any]] = []
    months = [datetime(2026, month, 2, tzinfo=UTC) for month in (3, 4, 5)]
    for table_name, used in ((table, dynamodb), ("fake", fake(client))):
        random_work = random.Random(seed)
        now = [months[0]]
        keyring = Keyring(table_name, used, partial(min, now))
        store = MeterStore(table_name, used, partial(min, now))
        keyring.create(owner="o", tier="pro", limits={Api.PLATE: 6}, overage=seed % 4 == 0, key="cs_key")
        seen = []
        for _ in range(25):
            ticket = f"t{random_work.randrange(3)}"
            grant = Grant(Api.PLATE, ticket, 2, replace(USAGE, key_id=key_id("cs_key")))
            work: list[Callable[[], Any]] = [
                partial(store.consume, "cs_key", Api.PLATE),
                partial(store.admit, "cs_key", Api.PLATE),
                partial(store.take, key_id("cs_key"), Api.PLATE, 2, ticket),
                partial(store.close, grant, 1),
                partial(store.refund, key_id("cs_key"), Api.PLATE, ticket),
                partial(store.settle, key_id("cs_key"), Api.PLATE, [ticket]),
            ]
            if random_work.random() < 0.1:
                now[0] = months[min(months.index(now[0]) + 1, 2)]  # what both clocks say
            try:
                seen.append(random_work.choice(work)())
            except ServiceError as error:
                seen.append(error.message)
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]
    stored = {(item["pk"]["S"], item["sk"]["S"]): item for item in dynamodb.scan(TableName=table)["Items"]}
    assert stored.keys() == client.items.keys()
    for name, item in client.items.items():
        written, embedded = (
            {name: value for name, value in one.items() if not name.startswith("call:")}
            for one in (item, stored[name])
        )
        assert {name: value for name, value in written.items() if value} == embedded
