"""Ends of batches that are told twice, late, at once or never: each is announced as one thing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from carsight_service.batch_store import ENDS, Batches, Conflict
from carsight_service.contract.errors import StoreUnavailable
from carsight_service.metering.meter_store import MeterStore
from carsight_service.notify.webhooks import Announcer
from carsight_service.queue.batch_steps import BatchSteps
from carsight_service.queue.outcomes import Outcomes
from carsight_service.queue.retry import TryLater
from carsight_service.queue.tables import write_tables
from local.step_functions import MACHINE_ARN
from tests.batches import (
    a_list,
    aborted,
    begun,
    check_ended,
    check_whole,
    deliveries,
    failing,
    lines,
    redrive,
    run_child,
    show,
    stop,
    submit,
)
from tests.events import Invocation
from tests.pipeline import Died, Pipeline, crossed_by, dying, have_listed, once


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"), [(BatchSteps, "_join"), (Announcer, "announce"), (Batches, "end")]
)
def test_whoever_dies_over_a_result_has_it_announced_under_one_name(
    pipeline: Pipeline, owner: Any, name: str, after: bool
) -> None:
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg")])
    announced = deliveries(pipeline)
    with dying(owner, name, after):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["read"]) == ("finished", 1)
    assert set(announced) == {batch}
    assert len(announced) <= 2


@pytest.mark.parametrize("stopped", [False, True])
def test_an_end_that_is_told_again_is_not_announced_again(pipeline: Pipeline, stopped: bool) -> None:
    """As EventBridge may do, and Step Functions where an answer is lost."""
    _, batch = begun(pipeline, 5)
    announced = deliveries(pipeline)
    if stopped:
        stop(pipeline, batch)
    pipeline.drain()
    ended = show(pipeline, batch)
    jobs = BatchSteps(pipeline.deployment)
    for told in (
        aborted(batch),
        {"finish": batch, "redrives": 0, "manifest": ""},
    ):
        assert jobs.handle(told, Invocation())["state"] == ended["state"]
    again = show(pipeline, batch)
    for name in ("state", "rows", "read", "failed", "finished"):
        assert again[name] == ended[name]
    assert announced == [batch]


def test_what_a_run_leaves_that_dies_after_the_end_is_closed_when_that_is_told_again(
    pipeline: Pipeline,
) -> None:
    images, batch = begun(pipeline, 5)

    def late(take: Callable[..., Any], *arguments: Any) -> None:
        stop(pipeline, batch)
        pipeline.drain()
        take(*arguments)
        raise Died

    with once(MeterStore, "take", late), pytest.raises(Died):
        run_child(pipeline, batch, images)
    assert (pipeline.used(), len(pipeline.tickets())) == (10, 1)
    BatchSteps(pipeline.deployment).handle(aborted(batch), Invocation())
    check_ended(pipeline, batch)
    assert pipeline.used() == 5


@pytest.mark.parametrize("dies", [False, True])
def test_an_end_that_is_told_twice_at_once_misses_nothing_that_either_has_paid(
    pipeline: Pipeline, dies: bool
) -> None:
    """The first has joined when a child is stored; the second finds that, pays it, and may die over it."""
    images, batch = begun(pipeline, 5)
    jobs = BatchSteps(pipeline.deployment)

    def stored_late(put: Callable[..., Any], *arguments: Any) -> Any:
        def told_again(end: Callable[..., Any], *ended: Any, **fields: Any) -> Any:
            put(*arguments)
            with dying(Outcomes, "pay", after=True) if dies else nullcontext(), suppress(Died):
                jobs.handle(aborted(batch), Invocation())
            return end(*ended, **fields)

        stop(pipeline, batch)
        with once(Batches, "end", told_again):
            pipeline.drain()
        return put(*arguments)

    with once(Outcomes, "put", stored_late), suppress(TryLater):
        run_child(pipeline, batch, images)
    check_ended(pipeline, batch)
    assert (len(lines(pipeline, batch)), pipeline.used()) == (5, 5)
    redrive(pipeline, batch)
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_whoever_is_slow_over_a_result_does_not_write_over_a_later_one(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    jobs = BatchSteps(pipeline.deployment)

    def slow(*arguments: Any) -> None:
        patch.undo()
        write_tables(*arguments)
        jobs.handle(aborted(batch), Invocation())
        redrive(pipeline, batch)
        pipeline.states.drain()
        check_whole(pipeline, batch, images)

    stop(pipeline, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carsight_service.queue.batch_steps.write_tables", slow)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            jobs.handle(aborted(batch), Invocation())
    check_whole(pipeline, batch, images)
    assert pipeline.result(f"batches/{batch}/manifest.json")["read"] == 5


@pytest.mark.parametrize("redrives", [0, 1])
def test_an_end_that_cannot_be_announced_is_told_again_until_it_is(pipeline: Pipeline, redrives: int) -> None:
    """Its results are there, and it cannot be redriven but from the console: it is this end that is told."""
    _, batch = begun(pipeline, 5)
    announced = deliveries(pipeline)
    stop(pipeline, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Announcer, "announce", Mock(side_effect=StoreUnavailable("the bus")))
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr("sys.excepthook", Mock())
            pipeline.drain()
    assert (show(pipeline, batch)["state"], lines(pipeline, batch), announced) == ("cancelled", [], [])
    assert redrive(pipeline, batch)[0] == 400
    for _ in range(2):
        BatchSteps(pipeline.deployment).handle(aborted(batch, redrives), Invocation())
    assert announced == [batch]
    assert redrive(pipeline, batch)[0] == 200


def tell_end(pipeline: Pipeline, batch: str) -> None:
    """Tell of the end of an execution, if it has not succeeded, as EventBridge may once more."""
    arn = f"{MACHINE_ARN.replace(':stateMachine:', ':execution:')}:{batch}"
    execution = pipeline.states.describe_execution(executionArn=arn)
    if execution["status"] in ENDS:
        detail = {name: execution[name] for name in ("status", "redriveCount")}
        with suppress(TryLater, Conflict, ClientError):
            BatchSteps(pipeline.deployment).handle({"detail": {"name": batch, **detail}}, Invocation())


def test_whatever_crosses_an_end_each_is_announced_as_one_thing(pipeline: Pipeline) -> None:
    """Ends are told again, batches stopped and redriven, and workers die, while results are joined."""
    pipeline.create_key()
    images, chance = a_list(pipeline, 5), random.Random(5)
    crossed: list[str] = []
    batches: list[str] = []
    announced: dict[str, set[str]] = {}

    def stop_it() -> None:
        stop(pipeline, batches[-1])

    def redrive_it() -> None:
        redrive(pipeline, batches[-1])

    def tell() -> None:
        tell_end(pipeline, batches[-1])

    def die() -> None:
        raise Died

    def something() -> None:
        if chance.random() < 0.25:
            event = chance.choice([stop_it, tell, redrive_it, die])
            crossed.append(event.__name__)
            event()

    def announces(_: Announcer, kind: str, key: str, delivery: str, detail: Any) -> None:
        announced.setdefault(delivery, set()).add(json.dumps(detail))

    for _ in range(8):
        batches.append(submit(pipeline, images))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Announcer, "announce", crossed_by(something, announces))
            for owner, name in ((BatchSteps, "_join"), (Batches, "end")):
                patch.setattr(owner, name, crossed_by(something, getattr(owner, name)))
            for event in (pipeline.drain, tell, redrive_it, pipeline.drain):
                with suppress(Died):
                    event()
        pipeline.patch.setattr(Announcer, "announce", announces)
        for event in (pipeline.drain, tell, redrive_it, pipeline.drain):
            event()
        said = show(pipeline, batches[-1])
        assert (said["state"], len(lines(pipeline, batches[-1])), said["done"]) == ("finished", 5, 5)
    assert pipeline.tickets() == []
    assert {len(details) for details in announced.values()} == {1}
    assert set(crossed) == {"stop_it", "tell", "redrive_it", "die"}


def list_ended(pipeline: Pipeline, ago: timedelta) -> None:
    """Have Step Functions list what has ended, so long ago; no page is full, and the first is empty."""

    def listed(**asked: Any) -> Any:
        found = [one for one in pipeline.states._executions.values() if one.status == asked["statusFilter"]]
        stopped = pipeline.deployment.clock() - ago
        at = int(asked.get("nextToken", 0))
        return {
            "executions": [
                {"name": one.name, "redriveCount": one.redrives, "stopDate": stopped}
                for one in found[at - 1 : at]
            ]
        } | ({"nextToken": str(at + 1)} if at < len(found) else {})

    have_listed(pipeline, listed)


def untold(pipeline: Pipeline) -> list[str]:
    """Two batches that were stopped, and one that failed, of which nobody was told."""
    pipeline.create_key()
    batches = [submit(pipeline, a_list(pipeline, 60)) for _ in range(3)]
    for batch in batches[:2]:
        assert stop(pipeline, batch)[0] == 200
    with pytest.MonkeyPatch.context() as patch, failing(pipeline, batches[2], row=1):
        patch.setattr(pipeline.states, "_ended", lambda event: None)
        pipeline.drain()
    assert not any(show(pipeline, batch)["finished"] for batch in batches)
    return batches


def test_an_end_that_nobody_is_told_of_is_found(pipeline: Pipeline) -> None:
    """EventBridge delivers Step Functions' events at its best effort."""
    batches, announced = untold(pipeline), deliveries(pipeline)
    jobs = BatchSteps(pipeline.deployment)
    for ago in (timedelta(minutes=50), timedelta(days=3)):  # it may be told yet; and what is long over
        list_ended(pipeline, ago)
        jobs.handle({"sweep": True}, Invocation())
    assert announced == []
    list_ended(pipeline, timedelta(hours=2))
    for _ in range(2):
        jobs.handle({"sweep": True}, Invocation())
    said = [show(pipeline, batch) for batch in batches]
    assert [one["state"] for one in said] == ["cancelled", "cancelled", "failed"]
    assert [one["done"] for one in said] == [0, 0, 10]
    assert all(one["finished"] and one["results"] for one in said)
    assert sorted(announced) == sorted(batches)
    assert (pipeline.used(), pipeline.tickets()) == (said[2]["read"], [])
    redrive(pipeline, batches[2])
    jobs.handle({"sweep": True}, Invocation())  # not this one, which runs again
    pipeline.drain()
    assert show(pipeline, batches[2])["state"] == "finished"


def test_an_end_that_cannot_be_dealt_with_keeps_none_from_being_found(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = untold(pipeline)
    list_ended(pipeline, timedelta(hours=2))
    real = BatchSteps.finish

    def finish(self: BatchSteps, batch: str, *known: Any) -> Any:
        if batch == first:
            raise StoreUnavailable("busy")
        return real(self, batch, *known)

    pipeline.patch.setattr(BatchSteps, "finish", finish)
    with pytest.raises(StoreUnavailable):  # for the alarm
        BatchSteps(pipeline.deployment).handle({"sweep": True}, Invocation())
    assert all(show(pipeline, batch)["finished"] for batch in others)
    (said,) = (vars(record) for record in caplog.records if record.levelname == "ERROR")
    assert said["batch"] == first


def test_an_end_that_ends_whoever_deals_with_it_keeps_none_from_being_found(pipeline: Pipeline) -> None:
    """One whose results take longer to join than a function may run, say."""
    *others, worst = untold(pipeline)  # a failed one, which are listed first
    list_ended(pipeline, timedelta(hours=2))
    real = BatchSteps.finish

    def finish(self: BatchSteps, batch: str, *known: Any) -> Any:
        if batch == worst:
            raise Died
        return real(self, batch, *known)

    pipeline.patch.setattr(BatchSteps, "finish", finish)
    for _ in range(100):
        with pytest.raises(Died):
            BatchSteps(pipeline.deployment).handle({"sweep": True}, Invocation())
    assert all(show(pipeline, batch)["finished"] for batch in others)
