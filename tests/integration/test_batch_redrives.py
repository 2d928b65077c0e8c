"""Redrives of batches: asked for twice, lost on the way, begun from the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import ANY, Mock

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from carsight_service.batch_store import Batches, Conflict
from carsight_service.queue.batch_steps import BatchSteps
from carsight_service.queue.children import ChildReader
from carsight_service.queue.retry import TryLater
from tests.batches import (
    a_list,
    ask,
    begun,
    check_whole,
    deliveries,
    failing,
    lines,
    put_list,
    redrive,
    send,
    show,
    stop,
)
from tests.events import Invocation
from tests.pipeline import PHOTO, UPLOADS, Died, Pipeline, once


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("runs", [False, True])
def test_a_redrive_that_is_asked_for_again_is_begun_once(
    pipeline: Pipeline, after: bool, dies: bool, runs: bool
) -> None:
    """Its function died or Step Functions did not answer; it may have begun, and failed, all the same."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    announced = deliveries(pipeline)
    lose_redrive(pipeline, batch, after, dies)
    if runs:
        pipeline.drain()
    assert stop(pipeline, batch)[0] == 200  # which has ended
    said = show(pipeline, batch)
    assert (said["state"], said["done"], bool(said["results"]), pipeline.recognized) == (
        "failed",
        0,
        True,
        [],
    )
    status, said = redrive(pipeline, batch)
    assert (status, said["state"]) == (200, "running")
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert announced == [f"{batch}-{2 if runs and after else 1}"]


def lose_redrive(pipeline: Pipeline, batch: str, after: bool, dies: bool) -> None:
    """Ask for a redrive whose function dies, or is not answered, before or ``after`` it has begun."""

    def lost(begin: Callable[..., Any], **arguments: Any) -> None:
        if after:
            begin(**arguments)
        raise Died if dies else ReadTimeoutError(endpoint_url="https://states")

    with once(pipeline.states, "redrive_execution", lost), pytest.raises(Died) if dies else nullcontext():
        assert redrive(pipeline, batch)[0] == 503


@contextmanager
def before_it_is_noted(pipeline: Pipeline, something: Callable[[], object]) -> Iterator[None]:
    """Have ``something`` happen when a redrive has begun."""
    real = pipeline.states.redrive_execution

    def redriven(**arguments: Any) -> Any:
        answer = real(**arguments)
        something()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.states, "redrive_execution", redriven)
        yield


def test_a_redrive_that_is_asked_for_twice_at_once_is_begun_once(pipeline: Pipeline) -> None:
    """Both are told that it runs: an answer is lost where a client no longer waits for it, too."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    said = []
    with before_it_is_noted(pipeline, lambda: said.append(redrive(pipeline, batch))):
        said.append(redrive(pipeline, batch))
    assert [(status, answer["state"]) for status, answer in said] == [(200, "running")] * 2
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_redrive_that_fails_before_it_is_noted_is_not_noted_any_more(pipeline: Pipeline) -> None:
    """Nobody would tell of its end again, and it would run for good."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    with before_it_is_noted(pipeline, pipeline.drain):
        assert redrive(pipeline, batch)[0] == 400
    assert show(pipeline, batch)["state"] == "failed"
    assert redrive(pipeline, batch)[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_redrive_whose_end_is_told_while_it_is_noted_is_told_again(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()

    def noted(change: Callable[..., Any], *arguments: Any) -> Any:
        assert redrive(pipeline, batch)[0] == 200
        return change(*arguments)

    told = {"detail": {"name": batch, "status": "FAILED", "redriveCount": 1}}
    with once(Batches, "change", noted), pytest.raises(Conflict):
        BatchSteps(pipeline.deployment).handle(told, Invocation())
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_results_are_joined_once_their_redrive_is_noted(pipeline: Pipeline) -> None:
    """All rows were read when it failed: a redrive comes to its end at once."""
    images, batch = begun(pipeline, 5)
    finish = BatchSteps.finish

    def unlucky(self: BatchSteps, name: str, redrives: int, state: Any, *more: Any) -> Any:
        if state == "finished":
            raise Died
        return finish(self, name, redrives, state, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchSteps, "finish", unlucky)
        pipeline.drain()
    assert (show(pipeline, batch)["state"], pipeline.used()) == ("failed", 5)
    announced = deliveries(pipeline)

    def joins() -> None:
        with pytest.raises(TryLater):
            BatchSteps(pipeline.deployment).finish(batch, 1, "finished")

    with before_it_is_noted(pipeline, joins):
        assert redrive(pipeline, batch)[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert announced == [f"{batch}-1"]


def test_a_list_is_checked_once_its_redrive_is_noted(listing: Pipeline) -> None:
    """What the check notes would overtake that."""
    images = a_list(listing, 5)
    address = put_list(listing, "list.csv", "\n".join(["image", *images]).encode())
    batch = send(listing, address)[1]["id"]
    stop(listing, batch)
    listing.drain()

    def checks() -> None:
        rows = {"kind": "csv", "bucket": UPLOADS, "key": "list.csv"}
        with pytest.raises(TryLater):
            BatchSteps(listing.deployment).check(batch, rows)

    with before_it_is_noted(listing, checks):
        assert redrive(listing, batch)[0] == 200
    listing.drain()
    check_whole(listing, batch, images)


def test_a_redrive_has_the_objects_that_were_listed_first(listing: Pipeline) -> None:
    """As Step Functions does ("Scenarios of input used on Map Run redrive"): cameras go on sending photos."""
    keys = [f"gate/{number:02}.jpg" for number in range(1, 61)]
    for key in keys:
        listing.s3.put_object(Bucket=UPLOADS, Key=key, Body=PHOTO)
    batch = send(listing, f"s3://{UPLOADS}/gate/")[1]["id"]
    with failing(listing, batch, row=51):
        listing.drain()
    listing.s3.put_object(Bucket=UPLOADS, Key="gate/00.jpg", Body=PHOTO)
    assert redrive(listing, batch)[0] == 200
    listing.drain()
    assert [row["input"] for row in lines(listing, batch)] == [f"s3://{UPLOADS}/{key}" for key in keys]


@pytest.mark.parametrize(("method", "path"), [("POST", "/redrive"), ("DELETE", "")])
def test_a_redrive_is_begun_once_when_its_token_is_forgotten(
    pipeline: Pipeline, method: str, path: str
) -> None:
    """Somebody asks again while the end of a long redrive has not been noted yet."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    assert redrive(pipeline, batch)[0] == 200

    def asked_again(finish: Callable[..., Any], *arguments: Any) -> Any:
        real = pipeline.states.redrive_execution
        with pytest.MonkeyPatch.context() as patch:
            forgotten = lambda **known: real(executionArn=known["executionArn"])  # noqa: E731
            patch.setattr(pipeline.states, "redrive_execution", forgotten)
            assert ask(pipeline, method, f"/v1/batches/{batch}{path}")[0] == 200
        return finish(*arguments)

    with failing(pipeline, batch, row=1), once(BatchSteps, "finish", asked_again):
        pipeline.drain()
    assert show(pipeline, batch)["finished"]
    assert redrive(pipeline, batch)[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("times", [1, 3])
def test_a_batch_that_was_redriven_from_the_console_can_be_redriven(pipeline: Pipeline, times: int) -> None:
    """Which reads nothing, as nobody has noted that it runs, and is not taken for the redrive asked for."""
    images, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    announced = deliveries(pipeline)
    (arn,) = pipeline.states._executions
    for _ in range(times):
        pipeline.states.redrive_execution(executionArn=arn)
        pipeline.drain()
    assert show(pipeline, batch)["state"] == "failed"
    assert redrive(pipeline, batch)[1]["state"] == "running"
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert announced == [f"{batch}-{times + 1}"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_batch_that_was_redriven_from_the_console_before_its_end_was_told(
    pipeline: Pipeline, fails: bool
) -> None:
    """Nothing has noted that it failed, so its rows are read, and are to be joined."""
    images, batch = begun(pipeline, 60)
    with pytest.MonkeyPatch.context() as patch, failing(pipeline, batch, row=51):
        patch.setattr(pipeline.states, "_ended", lambda event: None)
        pipeline.drain()
    announced = deliveries(pipeline)
    (arn,) = pipeline.states._executions
    pipeline.states.redrive_execution(executionArn=arn)
    with failing(pipeline, batch, row=51) if fails else nullcontext():
        pipeline.drain()
    assert announced == [batch]
    if fails:
        said = show(pipeline, batch)
        assert (said["state"], said["done"]) == ("failed", 50)
        assert said["finished"] and said["results"]
        assert redrive(pipeline, batch)[0] == 200
        pipeline.drain()
    check_whole(pipeline, batch, images)
    BatchSteps(pipeline.deployment).finish(batch, 0, "failed")  # its first end, told late
    check_whole(pipeline, batch, images)
    assert announced == [batch, f"{batch}-2"][: 1 + fails]


@pytest.mark.parametrize("gone", ["ExecutionNotRedrivable", "ExecutionDoesNotExist"])
def test_a_batch_that_cannot_be_redriven_any_more_stays_as_it_is(pipeline: Pipeline, gone: str) -> None:
    """Step Functions redrives for fourteen days, and knows an execution for ninety."""
    _, batch = begun(pipeline, 5)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    ended = show(pipeline, batch)
    refused = Mock(side_effect=ClientError({"Error": {"Code": gone, "Message": ""}}, "RedriveExecution"))
    with pytest.MonkeyPatch.context() as patch:
        for operation in ("redrive_execution", "describe_execution")[: 1 + (gone == "ExecutionDoesNotExist")]:
            patch.setattr(pipeline.states, operation, refused)
        assert redrive(pipeline, batch)[0] == 400
    assert show(pipeline, batch) == ended | {"request_id": ANY, "results": ANY}


def test_rows_that_wait_to_be_redriven_are_pending(pipeline: Pipeline) -> None:
    """Step Functions counts them apart from those that have not been tried yet."""
    _, batch = begun(pipeline, 60)
    real = pipeline.states.describe_map_run

    def redriving(**arguments: Any) -> Any:
        counts = {"pending": 0, "running": 50, "pendingRedrive": 10}
        return {**real(**arguments), "itemCounts": counts}

    def during(read: Callable[..., Any], *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline.states, "describe_map_run", redriving)
            said = show(pipeline, batch)
        assert (said["pending"], said["running"]) == (10, 50)
        return read(*arguments)

    with once(ChildReader, "read", during):
        pipeline.drain()
    assert show(pipeline, batch)["state"] == "finished"


@pytest.mark.parametrize("finds", ["photos", "joined"])
def test_an_interrupted_prefix_is_redriven_with_the_objects_of_its_first_listing(
    listing: Pipeline, finds: str, tmp_path: Path
) -> None:
    """The next ``make run`` goes on where the last one was killed: in the map, or behind it."""
    for number in range(60):
        listing.s3.put_object(Bucket=UPLOADS, Key=f"fleet/{number:02}.jpg", Body=PHOTO)
    listing.states = listing.machine(folder=tmp_path)
    batch = send(listing, f"s3://{UPLOADS}/fleet/")[1]["id"]

    def killed(real: Callable[..., Any], *arguments: Any) -> None:
        if finds == "photos":  # once those of the first child have been read
            real(*arguments)
        raise SystemExit

    owner, name = (ChildReader, "read") if finds == "photos" else (BatchSteps, "finish")
    with pytest.raises(SystemExit), once(owner, name, killed):
        listing.drain()
    listing.s3.put_object(Bucket=UPLOADS, Key="fleet/0.jpg", Body=PHOTO)
    listing.states = listing.machine(folder=tmp_path)
    listing.states.end_interrupted(listing.table)
    said = show(listing, batch)
    read = {"photos": 50, "joined": 60}[finds]
    assert (said["state"], said["read"], len(listing.recognized)) == ("cancelled", read, read)
    assert redrive(listing, batch)[1]["state"] == "running"
    listing.drain()
    said = show(listing, batch)
    assert (said["state"], said["read"], len(listing.recognized), listing.used()) == ("finished", 60, 60, 60)
    assert [row["input"] for row in lines(listing, batch)] == [
        f"s3://{UPLOADS}/fleet/{number:02}.jpg" for number in range(60)
    ]
