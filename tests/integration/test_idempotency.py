"""A retry with the same ``Idempotency-Key`` is neither counted nor computed again."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from carsight_service.contract.api import Api
from carsight_service.contract.errors import (
    IdempotencyKeyReused,
    NothingFound,
    RequestInProgress,
    ServiceError,
    StoreUnavailable,
)
from carsight_service.http import idempotency
from carsight_service.http.idempotency import Retries
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.model import key_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Context:
    """A Lambda invocation with 20 seconds to go."""

    aws_request_id = "1"

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


@pytest.fixture
def store(table: str, dynamodb: DynamoDBClient) -> MeterStore:
    return MeterStore(table, dynamodb)


@pytest.fixture
def retries(table: str, dynamodb: DynamoDBClient) -> Retries:
    return Retries(table, dynamodb)


@pytest.fixture
def key(table: str, dynamodb: DynamoDBClient) -> str:
    return Keyring(table, dynamodb).create(owner="owner@example.com", tier="pro")[0]


class Gate:
    """Holds a request between being counted and being answered."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def pass_through(self) -> None:
        self.entered.set()
        assert self.opened.wait(10)


def metered(
    store: MeterStore, key: str, error: ServiceError | None = None, gate: Gate | None = None
) -> Callable[[], dict[str, Any]]:
    """A request as the endpoint makes it: computed, and counted unless it fails."""

    def call() -> dict[str, Any]:
        if error:
            raise error
        usage = store.consume(key, Api.PLATE)
        if gate:
            gate.pass_through()
        return {"statusCode": 200, "headers": usage.headers, "body": '{"success":true,"plate":"ä"}'}

    return call


def used(store: MeterStore, key: str) -> int:
    return next(usage.current for usage in store.account(key).usage if usage.api is Api.PLATE)


def ask(retries: Retries, key: str, call: Callable[[], dict[str, Any]], **changed: Any) -> dict[str, Any]:
    asked = {"api": Api.PLATE, "key": key, "token": "t", "fingerprint": "f", **changed}
    return retries.once(context=Context(), call=call, **asked)


def test_a_retry_gets_the_stored_answer_and_is_not_counted(
    store: MeterStore, retries: Retries, key: str
) -> None:
    first = ask(retries, key, metered(store, key))
    second = ask(retries, key, metered(store, key))
    assert second["body"] == first["body"]
    assert second["headers"] == {**first["headers"], "idempotent-replayed": "true"}
    assert used(store, key) == 1


@pytest.mark.parametrize("changed", [{"token": "another"}, {"api": Api.VIN}])
def test_another_token_or_api_is_another_request(
    store: MeterStore, retries: Retries, key: str, changed: dict[str, Any]
) -> None:
    ask(retries, key, metered(store, key))
    ask(retries, key, metered(store, key), **changed)
    assert used(store, key) == 2


def test_keys_do_not_see_each_other_s_answers(
    store: MeterStore, retries: Retries, dynamodb: DynamoDBClient, key: str, table: str
) -> None:
    other = Keyring(table, dynamodb).create(owner="other@example.com", tier="pro")[0]
    ask(retries, key, metered(store, key))
    assert "idempotent-replayed" not in ask(retries, other, metered(store, other))["headers"]
    assert used(store, other) == 1


def test_a_token_used_with_another_image_is_refused(store: MeterStore, retries: Retries, key: str) -> None:
    ask(retries, key, metered(store, key))
    with pytest.raises(IdempotencyKeyReused):
        ask(retries, key, metered(store, key), fingerprint="another")
    assert used(store, key) == 1


def test_an_error_is_not_stored(store: MeterStore, retries: Retries, key: str) -> None:
    with pytest.raises(NothingFound):
        ask(retries, key, metered(store, key, NothingFound(Api.PLATE)))
    assert ask(retries, key, metered(store, key))["statusCode"] == 200
    assert used(store, key) == 1


def test_an_early_retry_waits_for_the_first_request(store: MeterStore, retries: Retries, key: str) -> None:
    gate = Gate()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, retries, key, metered(store, key, gate=gate))
        assert gate.entered.wait(10)
        second = pool.submit(ask, retries, key, metered(store, key))
        gate.opened.set()
        assert second.result()["body"] == first.result()["body"]
    assert used(store, key) == 1


def test_a_retry_waits_for_a_limited_time(
    store: MeterStore, retries: Retries, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.1)
    gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, retries, key, metered(store, key, gate=gate))
        assert gate.entered.wait(10)
        with pytest.raises(RequestInProgress):
            ask(retries, key, metered(store, key))
        gate.opened.set()
        assert first.result()["statusCode"] == 200
    assert used(store, key) == 1


def test_neither_key_nor_token_is_stored(
    store: MeterStore, retries: Retries, dynamodb: DynamoDBClient, key: str, table: str
) -> None:
    ask(retries, key, metered(store, key), token="my own token")
    stored = str(dynamodb.scan(TableName=table)["Items"])
    assert key_id(key) in stored
    assert key not in stored
    assert "my own token" not in stored


def test_a_request_adds_no_handlers_to_the_client(
    store: MeterStore,
    retries: Retries,
    dynamodb: DynamoDBClient,
    key: str,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each layer of Powertools adds handlers to its client, and each handler makes every call slower."""
    added: list[Any] = []
    monkeypatch.setattr(dynamodb.meta.events, "register", lambda *handler, **_: added.append(handler))
    for number in range(3):
        ask(retries, key, metered(store, key), token=str(number))
    assert (used(store, key), added) == (3, [])
    Retries(table, dynamodb)
    assert added


@pytest.mark.parametrize("seed", [None, 7])
def test_a_long_answer_is_stored_compressed_if_it_fits(
    store: MeterStore, retries: Retries, key: str, seed: int | None
) -> None:
    """Plates in their hundreds; ``seed`` makes an answer that cannot be packed."""
    text = "plate " * 200_000 if seed is None else random.Random(seed).randbytes(600_000).hex()

    def long() -> dict[str, Any]:
        return {**metered(store, key)(), "body": json.dumps({"results": text})}

    first, second = ask(retries, key, long), ask(retries, key, long)
    assert first["body"] == second["body"]
    stored = seed is None
    assert ("idempotent-replayed" in second["headers"]) == stored
    assert used(store, key) == (1 if stored else 2)


# -- a table that does not answer ----------------------------------------------------------------------------


def refuse(dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Let DynamoDB refuse ``operation`` from now on."""

    def refused(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, operation)

    monkeypatch.setattr(dynamodb, operation, refused)


def test_without_the_table_nothing_is_served(
    store: MeterStore, retries: Retries, dynamodb: DynamoDBClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(dynamodb, monkeypatch, "put_item")
    with pytest.raises(StoreUnavailable):
        ask(retries, key, metered(store, key))
    assert used(store, key) == 0


def test_an_answer_that_was_counted_is_given_even_if_it_cannot_be_stored(
    store: MeterStore, retries: Retries, dynamodb: DynamoDBClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = store.consume(key, Api.PLATE)
    refuse(dynamodb, monkeypatch, "update_item")
    answer = ask(retries, key, lambda: {"statusCode": 200, "headers": usage.headers, "body": "{}"})
    assert answer["statusCode"] == 200


def test_an_error_is_answered_even_if_its_record_cannot_be_removed(
    store: MeterStore, retries: Retries, dynamodb: DynamoDBClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(dynamodb, monkeypatch, "delete_item")
    with pytest.raises(NothingFound):
        ask(retries, key, metered(store, key, NothingFound(Api.PLATE)))
