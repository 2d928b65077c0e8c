"""Requests for a batch that are sent again: it is begun once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pytest

from carsight_service.http.executions import Executions
from tests.batches import ask_once, check_whole, lines, put_list, show, throttled
from tests.events import event
from tests.pipeline import UPLOADS, Died, Pipeline, dying, once


def test_a_batch_that_is_asked_for_again_is_begun_once(pipeline: Pipeline) -> None:
    pipeline.create_key()
    asked = {"api": "plate", "images": [pipeline.put("car.jpg")] * 3}
    status, first, replayed = ask_once(pipeline, asked)
    assert (status, first["state"], replayed) == (200, "running", False)
    assert ask_once(pipeline, asked)[1:] == (first | {"request_id": ANY}, True)
    pipeline.drain()
    status, again, replayed = ask_once(pipeline, asked)
    assert (status, again["id"], again["state"], again["read"], replayed) == (
        *(200, first["id"], "finished", 3, True),
    )
    pipeline.drain()
    assert (pipeline.used(), len(pipeline.recognized)) == (3, 3)
    status, other, replayed = ask_once(pipeline, asked, "u")
    assert (status, replayed) == (200, False)
    assert other["id"] != first["id"]
    status, refused, _ = ask_once(pipeline, asked | {"regions": ["de"]})
    assert (status, refused["code"]) == (422, "idempotency_key_reused")
    key, _ = pipeline.keyring.create(owner="other@example.com", tier="pro")
    sent = event(json.dumps(asked), path="/v1/batches", headers={"x-api-key": key, "idempotency-key": "t"})
    assert pipeline.ask(sent)[1]["id"] not in (first["id"], other["id"])


@pytest.mark.parametrize("dies", ["put_item", "start_execution"])
@pytest.mark.parametrize("after", [False, True])
def test_a_batch_whose_function_dies_is_begun_by_the_next_request(
    pipeline: Pipeline, dies: str, after: bool
) -> None:
    pipeline.create_key()
    asked = {"api": "plate", "images": [pipeline.put("car.jpg")] * 3}
    owner = pipeline.dynamodb if dies == "put_item" else pipeline.states
    with dying(owner, dies, after), pytest.raises(Died):
        ask_once(pipeline, asked)
    status, said, replayed = ask_once(pipeline, asked)
    assert (status, replayed) == (200, after or dies == "start_execution")
    pipeline.drain()
    assert (show(pipeline, said["id"])["read"], pipeline.used()) == (3, 3)


def test_requests_for_one_batch_at_once_begin_it_once(pipeline: Pipeline) -> None:
    """The list of the one that comes late must not take the place of the other's."""
    pipeline.create_key()
    photo = pipeline.put("car.jpg")
    same, other = ({"api": "plate", "images": [photo] * rows} for rows in (3, 5))
    answers = []

    def meanwhile(begin: Callable[..., Any], *arguments: Any) -> Any:
        answers.append(ask_once(pipeline, same))
        return begin(*arguments)

    with once(Executions, "begin", meanwhile):
        answers.append(ask_once(pipeline, same))
    assert [(status, replayed) for status, _, replayed in answers] == [(200, False), (200, True)]
    assert answers[0][1]["id"] == answers[1][1]["id"]
    with once(Executions, "begin", meanwhile):
        assert ask_once(pipeline, other)[0] == 422
    pipeline.drain()
    assert len(lines(pipeline, answers[0][1]["id"])) == pipeline.used() == 3


def test_a_batch_whose_first_request_fails_while_another_has_begun_it_runs(pipeline: Pipeline) -> None:
    pipeline.create_key()
    images = [pipeline.put("car.jpg")] * 3
    asked = {"api": "plate", "images": images}
    answers: list[tuple[int, Any, bool]] = []

    def meanwhile(*_: Any, **__: Any) -> None:
        answers.append(ask_once(pipeline, asked))
        raise throttled("StartExecution")

    with once(pipeline.states, "start_execution", meanwhile):
        assert ask_once(pipeline, asked)[0] == 503
    assert answers[0][0] == 200
    pipeline.drain()
    check_whole(pipeline, answers[0][1]["id"], images)


def test_a_batch_is_known_for_as_long_as_its_execution_s_name_is_taken(pipeline: Pipeline) -> None:
    pipeline.create_key()
    _, said, _ = ask_once(pipeline, {"api": "plate", "images": ["a"]})
    table, key = pipeline.deployment.settings.table_name, {"pk": {"S": f"BATCH#{said['id']}"}}
    item = pipeline.dynamodb.get_item(TableName=table, Key=key | {"sk": {"S": "BATCH"}})["Item"]
    assert int(item["expires"]["N"]) > pipeline.deployment.clock().timestamp() + 100 * 86_400


def test_a_list_that_is_gone_does_not_matter_once_it_has_been_read(listing: Pipeline) -> None:
    listing.put("car.jpg")
    asked = {"api": "plate", "list": put_list(listing, "list.csv", listing.put("car.jpg").encode())}
    status, said, _ = ask_once(listing, asked)
    assert status == 200
    listing.drain()
    listing.s3.delete_object(Bucket=UPLOADS, Key="list.csv")
    status, again, replayed = ask_once(listing, asked)
    assert (status, again["id"], again["state"], replayed) == (200, said["id"], "finished", True)
    assert ask_once(listing, asked, "u")[0] == 400
