"""Batches that are stopped, at whatever point: what is charged is in the result, and they can be redriven."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any
from unittest.mock import ANY, Mock

import pytest

from carsight_service.batch_store import Batches
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batch_steps import BatchSteps
from carsight_service.queue.children import ChildReader
from carsight_service.queue.retry import TryLater
from local.step_functions import MACHINE_ARN
from tests.batches import (
    POINTS,
    a_list,
    begun,
    check_ended,
    check_whole,
    deliveries,
    failing,
    lines,
    put_list,
    redrive,
    run_child,
    send,
    show,
    stop,
    submit,
    throttled,
)
from tests.pipeline import Died, Pipeline, crossed_by, once


def test_a_stopped_batch_keeps_what_it_has_read_and_can_be_redriven(pipeline: Pipeline) -> None:
    pipeline.create_key()
    images = a_list(pipeline, 130)
    batch, announced = submit(pipeline, images), deliveries(pipeline)
    read = ChildReader.read
    children = 0

    def stops(*arguments: Any) -> Any:
        nonlocal children
        children += 1
        answer = read(*arguments)
        if children == 2:
            status, said = stop(pipeline, batch)
            assert (status, said["state"]) == (200, "cancelled")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChildReader, "read", stops)
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["rows"], said["done"], said["read"]) == ("cancelled", 130, 100, 86)
    assert [row["row"] for row in lines(pipeline, batch)] == list(range(1, 101))
    assert pipeline.used() == len(pipeline.recognized) == 86
    assert stop(pipeline, batch)[0] == 200

    status, said = redrive(pipeline, batch)
    assert (status, said["state"], said["results"]) == (200, "running", None)
    assert redrive(pipeline, batch) == (200, said | {"request_id": ANY})
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert len(pipeline.recognized) == pipeline.used()
    assert announced == [batch, f"{batch}-1"]
    assert redrive(pipeline, batch)[1]["code"] == "invalid_request"


def test_a_batch_that_is_stopped_while_its_failure_is_noted_can_be_redriven(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)

    def crosses(change: Callable[..., Any], batches: Batches, known: Any, **fields: Any) -> Any:
        change(batches, known, state="cancelled")
        return change(batches, known, **fields)

    with failing(pipeline, batch, row=1), once(Batches, "change", crosses):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["done"], pipeline.tickets()) == ("failed", 0, [])
    assert said["finished"] and said["results"]
    assert redrive(pipeline, batch)[0] == 200
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_batch_that_is_stopped_from_the_console_says_so_at_once(pipeline: Pipeline) -> None:
    _, batch = begun(pipeline, 60)
    execution = f"{MACHINE_ARN.replace(':stateMachine:', ':execution:')}:{batch}"

    def stopped(read: Callable[..., Any], *arguments: Any) -> Any:
        pipeline.states.stop_execution(executionArn=execution)
        said = show(pipeline, batch)
        assert (said["state"], said["results"]) == ("cancelled", None)
        return read(*arguments)

    with once(ChildReader, "read", stopped):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["done"], pipeline.used()) == ("cancelled", 50, 43)
    assert said["results"]


@pytest.mark.parametrize("redriven", [False, True])
def test_rows_that_are_being_read_when_a_batch_is_stopped_cost_nothing(
    pipeline: Pipeline, redriven: bool
) -> None:
    """When it runs again by then, they are counted like any others, and not read again."""
    images, batch = begun(pipeline, 5)
    rows = ChildReader._results

    def stopped(*arguments: Any) -> Any:
        answer = rows(*arguments)
        stop(pipeline, batch)
        assert redrive(pipeline, batch)[0] == 400  # not joined yet
        pipeline.drain()
        if redriven:
            assert redrive(pipeline, batch)[0] == 200
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChildReader, "_results", stopped)
        with nullcontext() if redriven else pytest.raises(TryLater):
            run_child(pipeline, batch, images)
    if redriven:
        assert (pipeline.used(), pipeline.tickets(), len(pipeline.recognized)) == (5, [], 5)
    else:
        said = show(pipeline, batch)
        assert (said["state"], said["done"], pipeline.used(), pipeline.tickets()) == ("cancelled", 0, 0, [])
        assert lines(pipeline, batch) == []
        redrive(pipeline, batch)
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert len(pipeline.recognized) == 5


@pytest.mark.parametrize("redriven", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(ChildReader, "_running"), *POINTS])
def test_a_batch_that_ends_while_a_child_stands_still(
    pipeline: Pipeline, owner: Any, name: str, after: bool, redriven: bool
) -> None:
    """However long a child takes over a step: what it stores is charged, what is charged is in the result."""
    images, batch = begun(pipeline, 5)

    def ends(step: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        answer = step(*arguments, **more) if after else None
        stop(pipeline, batch)
        pipeline.drain()
        check_ended(pipeline, batch)
        if redriven:
            assert redrive(pipeline, batch)[0] == 200
        return answer if after else step(*arguments, **more)

    with once(owner, name, ends), suppress(TryLater):
        run_child(pipeline, batch, images)
    if not redriven:
        check_ended(pipeline, batch)
        redrive(pipeline, batch)
    pipeline.drain()
    check_whole(pipeline, batch, images)


def check_stopped_and_redriven(pipeline: Pipeline, batch: str) -> None:
    """Stop a batch, and redrive it to its end, unless it has come there: redriven while its end was told."""
    if show(pipeline, batch)["state"] != "finished":
        stop(pipeline, batch)
        pipeline.drain()
        check_ended(pipeline, batch)
        redrive(pipeline, batch)
        pipeline.drain()


@pytest.mark.parametrize("after", [False, True])
def test_a_batch_that_is_stopped_while_its_list_is_checked_can_be_redriven(
    listing: Pipeline, after: bool
) -> None:
    images = a_list(listing, 60)
    address = put_list(listing, "list.csv", "\n".join(["image", *images]).encode())
    batch = send(listing, address)[1]["id"]

    def stopped(check: Callable[..., Any], *arguments: Any) -> Any:
        answer = check(*arguments) if after else None
        assert stop(listing, batch)[1]["state"] == "cancelled"
        return answer or check(*arguments)

    with once(BatchSteps, "check", stopped):
        listing.drain()
    said = show(listing, batch)
    assert (said["state"], said["done"], lines(listing, batch), listing.used()) == ("cancelled", 0, [], 0)
    assert redrive(listing, batch)[0] == 200
    listing.drain()
    check_whole(listing, batch, images)


@pytest.mark.parametrize(
    ("step", "state"),
    [
        ((BatchSteps, "_join"), "cancelled"),
        ((Batches, "end"), "cancelled"),
        ((Announcer, "announce"), "finished"),
    ],
)
@pytest.mark.parametrize("dies", [False, True])
def test_a_batch_that_is_stopped_while_its_results_are_joined_is_announced_as_what_it_is(
    pipeline: Pipeline, step: tuple[Any, str], state: str, dies: bool
) -> None:
    """Whoever heard of a finished one before would take a cancelled one for the same delivery."""
    images, batch = begun(pipeline, 5)
    announced: list[tuple[str, str]] = []

    def announces(_: Announcer, kind: str, key: str, delivery: str, detail: Any) -> None:
        announced.append((delivery, detail["state"]))

    def stopped(real: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        stop(pipeline, batch)
        answer = real(*arguments, **more)
        if dies:
            raise Died
        return answer

    pipeline.patch.setattr(Announcer, "announce", announces)
    with once(*step, stopped):
        pipeline.drain()
    assert show(pipeline, batch)["state"] == state
    assert announced == [(batch, state)] * (2 if dies and state == "finished" else 1)
    if state == "cancelled":
        check_ended(pipeline, batch)
        assert redrive(pipeline, batch)[0] == 200
        pipeline.drain()
    check_whole(pipeline, batch, images)


def test_stops_redrives_and_deaths_in_any_order(pipeline: Pipeline) -> None:
    """A child's workers stand still or die while others of the same child run and its batch ends."""
    images, batch = begun(pipeline, 8, overage=True)
    chance = random.Random(17)
    events: list[str] = []
    within: list[str] = []

    def run() -> None:
        with suppress(TryLater, Died):
            run_child(pipeline, batch, images, attempt=len(events) % 3)

    def end() -> None:
        stop(pipeline, batch)
        pipeline.drain()

    def redrive_it() -> None:
        redrive(pipeline, batch)

    def die() -> None:
        if "end" not in within:
            raise Died

    happen = [run, run, end, redrive_it, die]

    def something() -> None:
        if len(within) < 3 and len(events) < 60 and chance.random() < 0.3:
            event = chance.choice(happen)
            events.append(event.__name__)
            within.append(event.__name__)
            try:
                event()
            finally:
                within.pop()

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in POINTS:
            patch.setattr(owner, name, crossed_by(something, getattr(owner, name)))
        while len(events) < 60 and show(pipeline, batch)["state"] != "finished":
            run()
            redrive_it()
    check_stopped_and_redriven(pipeline, batch)
    check_whole(pipeline, batch, images)
    assert set(events) == {event.__name__ for event in happen}


def test_a_stop_that_is_throttled_leaves_a_batch_as_it_is(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.states, "stop_execution", Mock(side_effect=throttled("StopExecution")))
        status, said = stop(pipeline, batch)
    assert (status, said["code"]) == (503, "key_store_unavailable")
    assert show(pipeline, batch)["state"] == "running"
    pipeline.drain()
    check_whole(pipeline, batch, images)
