"""Children of batches whose workers die, run twice, or wait: each row is read and counted once."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carsight_service.aws.storage import Storage, StoredPhoto
from carsight_service.batch_store import Batches
from carsight_service.contract.api import Api
from carsight_service.contract.errors import StoreUnavailable
from carsight_service.metering.meter_store import MeterStore
from carsight_service.queue.children import PATIENT_ATTEMPTS, ChildReader
from carsight_service.queue.outcomes import MOST_IN_HAND, Outcomes
from carsight_service.queue.retry import TryLater
from tests.batches import (
    POINTS,
    a_list,
    ask_once,
    begun,
    check_whole,
    failing,
    lines,
    parquet,
    redrive,
    run_child,
    show,
    submit,
    table,
    tag,
    throttled,
)
from tests.pipeline import KEY_ID, PHOTO, Died, Pipeline, dying, once


def test_a_child_that_is_given_up_is_in_its_place(pipeline: Pipeline) -> None:
    """One of a hundred and one may fail."""
    pipeline.create_key()
    images = ["nothing"] * (100 * 50) + [pipeline.put("car.jpg")] * 50
    batch = submit(pipeline, images)
    with failing(pipeline, batch, row=51):
        pipeline.drain()
    found = lines(pipeline, batch)
    every = list(range(1, len(images) + 1))
    assert [row["row"] for row in found] == every
    assert [row["code"] for row in found[50:100]] == ["internal_error"] * 50
    assert [row["status"] for row in (*found[:50], *found[100:])] == [400] * 4950 + [200] * 50
    assert [int(row["row"]) for row in table(pipeline, batch)] == every
    assert parquet(pipeline, batch)["row"] == every
    said = show(pipeline, batch)
    assert (said["state"], said["read"], said["failed"]) == ("finished", 50, 5000)
    assert (pipeline.used(), pipeline.tickets()) == (50, [])


@pytest.mark.parametrize(
    ("limit", "statuses"), [(4, [200, 200, 200, 200]), (2, [200, 200, 429, 429]), (1, [200, 429, 429, 429])]
)
@pytest.mark.parametrize(("owner", "name"), [(Outcomes, "put"), (MeterStore, "take"), (MeterStore, "close")])
@pytest.mark.parametrize("after", [False, True])
def test_the_last_units_are_still_there_when_their_worker_has_died(
    pipeline: Pipeline, owner: Any, name: str, after: bool, limit: int, statuses: list[int]
) -> None:
    pipeline.create_key("sandbox", limits={Api.PLATE: limit})
    batch = submit(pipeline, [pipeline.put("car.jpg")] * 4)
    with dying(owner, name, after):
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == statuses
    assert (pipeline.used(), pipeline.tickets()) == (limit, [])
    assert len(pipeline.recognized) == (8 if name == "put" and not after else 4)


@pytest.mark.parametrize("limit", [4, 5])
def test_runs_of_a_child_do_not_take_the_last_units_from_each_other(pipeline: Pipeline, limit: int) -> None:
    """One has all that are left or needed, and stands still or dies: the other pays with these."""
    pipeline.create_key("sandbox", limits={Api.PLATE: limit})
    images = [pipeline.put("car.jpg")] * 4
    batch = submit(pipeline, images)

    def second(take: Callable[..., Any], *arguments: Any) -> Any:
        with dying(MeterStore, "take", after=True), pytest.raises(Died):
            run_child(pipeline, batch, images)
        return take(*arguments)

    with once(MeterStore, "take", second):
        assert run_child(pipeline, batch, images)["read"] == 4
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_rows_processing_time_is_without_the_wait_for_its_photo(pipeline: Pipeline) -> None:
    pipeline.create_key()
    now = 0.0
    result = Future.result

    def waiting(*arguments: Any) -> Any:
        nonlocal now
        now += 60
        return result(*arguments)

    pipeline.patch.setitem(vars(pipeline.deployment), "timer", lambda: now)
    batch = submit(pipeline, [pipeline.put("car.jpg")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Future, "result", waiting)
        pipeline.drain()
    assert now >= 60
    assert [row["processing_time"] for row in lines(pipeline, batch)] == [0]


def test_a_child_waits_until_few_others_have_units_in_hand(pipeline: Pipeline) -> None:
    """Each write of the key's item pays for all that is in it; what was read meanwhile is not read again."""
    images, batch = begun(pipeline, 5)
    meters = pipeline.deployment.meters
    others = [
        meters.take(KEY_ID, Api.PLATE, 1, f"{tag(pipeline, batch)}-{n}.")
        for n in range(100, 100 + MOST_IN_HAND)
    ]
    for upload in range(MOST_IN_HAND):
        meters.consume_by_id(KEY_ID, Api.PLATE, f"{upload:032x}")
    for attempt in range(3):
        with pytest.raises(TryLater):
            run_child(pipeline, batch, images, attempt=attempt)
    assert len(pipeline.recognized) == 5
    meters.close(others.pop(), read=0)
    assert run_child(pipeline, batch, images, attempt=3)["read"] == 5
    assert len(pipeline.recognized) == 5
    # Tickets that nobody closes any more hold nobody up for long.
    others.append(meters.take(KEY_ID, Api.PLATE, 1, f"{tag(pipeline, batch)}-99."))
    with pytest.raises(TryLater):
        run_child(pipeline, batch, images, attempt=PATIENT_ATTEMPTS - 1, first=6)
    assert run_child(pipeline, batch, images, attempt=PATIENT_ATTEMPTS, first=6)["read"] == 5
    assert len(pipeline.recognized) == 10
    # One that has units there itself, of a run that died, waits for nobody.
    meters.take(KEY_ID, Api.PLATE, 5, f"{tag(pipeline, batch)}-11.")
    assert run_child(pipeline, batch, images, first=11)["read"] == 5


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), POINTS)
def test_a_worker_that_dies_over_a_child(pipeline: Pipeline, owner: Any, name: str, after: bool) -> None:
    images, batch = begun(pipeline, 12)
    with dying(owner, name, after):
        pipeline.drain()
    check_whole(pipeline, batch, images)


def test_twenty_deaths_lose_double_and_miscount_nothing(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 1200, overage=True)
    chance, deaths = random.Random(17), 0

    def mortal(name: str, real: Any) -> Any:
        def dying(*arguments: Any, **more: Any) -> Any:
            nonlocal deaths
            dies = deaths < 20 and chance.random() < (0.005 if name == "_result" else 0.15)
            deaths += dies
            answer = None if dies and chance.random() < 0.5 else real(*arguments, **more)
            if dies:
                raise Died
            return answer

        return dying

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read_photo", lambda *_: StoredPhoto(PHOTO, ()))
        for owner, name in POINTS:
            patch.setattr(owner, name, mortal(name, getattr(owner, name)))
        pipeline.drain()
    assert deaths == 20
    check_whole(pipeline, batch, images)


def test_a_photo_that_ends_its_worker_each_time_is_a_row_of_the_result(pipeline: Pipeline) -> None:
    pipeline.create_key()
    images = a_list(pipeline, 60)
    images[3] = images[40] = pipeline.put("fatal.jpg", PHOTO + b" fatal")
    batch = submit(pipeline, images)
    result = ChildReader._result

    def dies(self: ChildReader, batch: Any, item: Any, *more: Any) -> Any:
        if item.image == images[3]:
            raise Died
        return result(self, batch, item, *more)

    pipeline.patch.setattr(ChildReader, "_result", dies)
    pipeline.drain()
    expected = {"nothing": 400, images[3]: 500}
    assert [row["status"] for row in lines(pipeline, batch)] == [expected.get(image, 200) for image in images]
    said = show(pipeline, batch)
    assert (said["state"], said["read"], pipeline.used(), pipeline.tickets()) == ("finished", 50, 50, [])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(ChildReader, "_result"), (Outcomes, "note")])
def test_a_row_over_which_a_worker_dies_once_is_not_blamed(
    pipeline: Pipeline, owner: Any, name: str, after: bool
) -> None:
    images, batch = begun(pipeline, 5)
    with dying(owner, name, after), pytest.raises(Died):
        run_child(pipeline, batch, images, attempt=PATIENT_ATTEMPTS)
    run_child(pipeline, batch, images, attempt=PATIENT_ATTEMPTS + 1)
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("after", [False, True])
def test_whoever_dies_over_an_outcome_again_and_again_blames_no_row(pipeline: Pipeline, after: bool) -> None:
    images, batch = begun(pipeline, 5)
    put, deaths = Outcomes.put, 0

    def dies(*arguments: Any) -> Any:
        nonlocal deaths
        deaths += 1
        if after or deaths > 4:
            stored = put(*arguments)
        if deaths <= 4:
            raise Died
        return stored

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outcomes, "put", dies)
        pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_child_that_is_run_twice_is_read_once(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 9)
    first = run_child(pipeline, batch, images)
    assert run_child(pipeline, batch, images) == first
    assert run_child(pipeline, batch, images, attempt=1) == first
    assert len(pipeline.recognized) == pipeline.used() == 8
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize(("owner", "name"), [(ChildReader, "_result"), (Outcomes, "put")])
def test_a_child_that_is_run_twice_at_once_is_charged_once(pipeline: Pipeline, owner: Any, name: str) -> None:
    """Both read, on the same units: they are enough, though no more are left.

    So it is where an invocation is taken for lost: it goes on while the same execution tries again.
    """
    pipeline.create_key("sandbox", limits={Api.PLATE: 9})
    images = a_list(pipeline, 9)
    batch = submit(pipeline, images)
    answers = []

    def meanwhile(step: Callable[..., Any], *arguments: Any) -> Any:
        answers.append(run_child(pipeline, batch, images, attempt=1))
        return step(*arguments)

    with once(owner, name, meanwhile):
        assert run_child(pipeline, batch, images) == answers[0]
    assert (answers[0]["read"], pipeline.used(), pipeline.tickets()) == (8, 8, [])
    pipeline.drain()
    check_whole(pipeline, batch, images)


@pytest.mark.parametrize("dies", [False, True])
def test_units_that_are_taken_when_another_run_has_finished_are_given_back(
    pipeline: Pipeline, dies: bool
) -> None:
    """The first has looked for an outcome and stands still until the next has stored and counted its own."""
    pipeline.create_key()
    images = a_list(pipeline, 9)
    batch = submit(pipeline, images)

    def late(take: Callable[..., Any], *arguments: Any) -> Any:
        assert run_child(pipeline, batch, images, attempt=1)["read"] == 8
        grant = take(*arguments)
        if dies:
            raise Died
        return grant

    with once(MeterStore, "take", late), pytest.raises(Died) if dies else nullcontext():
        run_child(pipeline, batch, images)
    if not dies:
        assert (pipeline.used(), pipeline.tickets()) == (8, [])
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_whoever_settles_while_a_child_is_counted_pays_with_its_units(pipeline: Pipeline) -> None:
    """As an end does that is told twice, when the batch has been redriven by then."""
    images, batch = begun(pipeline, 5)
    outcomes, known = Outcomes(pipeline.deployment), Batches(pipeline.deployment).get(batch)
    assert known is not None

    def settled(take: Callable[..., Any], *arguments: Any) -> Any:
        grant = take(*arguments)
        outcomes.settle(known)
        return grant

    with once(MeterStore, "take", settled):
        assert run_child(pipeline, batch, images)["read"] == 5
    assert (pipeline.used(), pipeline.tickets()) == (5, [])
    pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_child_that_fails_for_good(pipeline: Pipeline) -> None:
    """One of two is too many: its batch has failed, keeps what the other has read, and can be redriven."""
    pipeline.create_key()
    images = ["nothing"] * 5 + [pipeline.put("car.jpg")] * 55
    batch = submit(pipeline, images)
    with failing(pipeline, batch, row=1):
        pipeline.drain()
    said = show(pipeline, batch)
    assert (said["state"], said["rows"], said["done"], said["read"]) == ("failed", 60, 10, 10)
    assert [row["row"] for row in lines(pipeline, batch)] == list(range(51, 61))
    assert (pipeline.used(), pipeline.tickets(), len(pipeline.recognized)) == (10, [], 10)
    redrive(pipeline, batch)
    pipeline.drain()
    check_whole(pipeline, batch, images)
    assert len(pipeline.recognized) == 55


def test_a_store_that_stops_is_waited_for(pipeline: Pipeline) -> None:
    images, batch = begun(pipeline, 5)
    refusals = 0
    real = pipeline.dynamodb.update_item

    def refused(**arguments: Any) -> Any:
        nonlocal refusals
        refusals += 1
        if refusals < 4:
            raise throttled("UpdateItem")
        return real(**arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.dynamodb, "update_item", refused)
        pipeline.drain()
    check_whole(pipeline, batch, images)


def test_a_row_whose_store_does_not_answer_ends_as_it_is(pipeline: Pipeline) -> None:
    pipeline.create_key()
    photo, broken = pipeline.put("car.jpg"), pipeline.put("broken.jpg")
    batch = submit(pipeline, [photo, broken, photo])
    read_photo = Storage.read_photo
    tries = 0

    def fails(self: Storage, bucket: str, key: str, *more: Any) -> Any:
        nonlocal tries
        if key == broken:
            tries += 1
            raise StoreUnavailable("object not readable: SlowDown")
        return read_photo(self, bucket, key, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read_photo", fails)
        pipeline.drain()
    assert [row["status"] for row in lines(pipeline, batch)] == [200, 503, 200]
    assert (tries, pipeline.used(), pipeline.tickets()) == (5, 2, [])


def test_an_object_that_is_waited_for_in_vain_is_tried_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_key()
    photo, slow = pipeline.put("car.jpg"), pipeline.put("slow.jpg")
    batch = submit(pipeline, [photo, slow, photo])
    monkeypatch.setattr("carsight_service.queue.children.SECONDS_A_ROW", 0.2)
    read_photo = Storage.read_photo
    hanging, tries = threading.Event(), 0

    def hangs(self: Storage, bucket: str, key: str, *more: Any) -> Any:
        nonlocal tries
        if key == slow and (tries := tries + 1) < 3:
            hanging.wait(20)
        return read_photo(self, bucket, key, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read_photo", hangs)
        pipeline.drain()
    hanging.set()
    assert [row["status"] for row in lines(pipeline, batch)] == [200, 200, 200]
    assert (tries, pipeline.used(), pipeline.tickets()) == (3, 3, [])


def test_rows_that_there_is_no_time_for_are_rows_of_the_result(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty photos that take longer than a child has."""
    pipeline.create_key()
    batch = submit(pipeline, [pipeline.put("car.jpg")] * 6)
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 30.0 * next(ticks))
    monkeypatch.setattr("carsight_service.queue.children.time", clock)
    attempts = []
    read = ChildReader.read

    def reads(self: ChildReader, event: Any, deadline: float) -> Any:
        nonlocal ticks
        ticks = itertools.count()
        attempts.append(event["attempt"])
        return read(self, event, 1e9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChildReader, "read", reads)
        pipeline.drain()
    assert attempts == [0]
    assert [row["status"] for row in lines(pipeline, batch)] == [200] * 3 + [504] * 3
    assert (pipeline.used(), pipeline.tickets()) == (3, [])


def test_batches_whose_ids_begin_alike_keep_what_they_have_counted(pipeline: Pipeline) -> None:
    """Whoever chooses keys can find two such ids in seconds."""
    pipeline.create_key()
    images = [pipeline.put("car.jpg")] * 3
    digest = "carsight_service.http.batches._digest"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, lambda text: "0" * 12 + sha256(text.encode()).hexdigest())
        one, other = (ask_once(pipeline, {"api": "plate", "images": images}, token)[1] for token in "tu")
    assert one["id"][:12] == other["id"][:12]

    def meanwhile(put: Callable[..., Any], *arguments: Any) -> Any:
        run_child(pipeline, one["id"], images)
        return put(*arguments)

    with once(Outcomes, "put", meanwhile):
        run_child(pipeline, other["id"], images)
    assert (pipeline.used(), pipeline.tickets()) == (6, [])


@pytest.mark.parametrize("leaves", [(Outcomes, "put"), (MeterStore, "take"), (MeterStore, "close")])
def test_a_batch_whose_machine_is_gone_is_stopped_when_another_starts(
    pipeline: Pipeline, leaves: tuple[Any, str], tmp_path: Path
) -> None:
    """As under ``make run``: what has been read is counted, and in the result; the rest can be read later."""
    pipeline.states = pipeline.machine(folder=tmp_path)
    images, batch = begun(pipeline, 60)
    with dying(*leaves, after=True), suppress(Died):
        run_child(pipeline, batch, images[:50])
    pipeline.states = pipeline.machine(folder=tmp_path)
    pipeline.states.end_interrupted(pipeline.table)
    said = show(pipeline, batch)
    assert (said["state"], said["done"], pipeline.used(), pipeline.tickets()) == ("cancelled", 50, 43, [])
    assert len(lines(pipeline, batch)) == 50
    assert redrive(pipeline, batch)[1]["state"] == "running"
    pipeline.drain()
    check_whole(pipeline, batch, images)
    pipeline.machine(folder=tmp_path).end_interrupted(pipeline.table)
    check_whole(pipeline, batch, images)


def test_a_batch_without_an_execution_is_stopped_when_a_machine_starts(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """As one that was begun before executions were kept, or by a run that was killed between the two."""
    _, batch = begun(pipeline, 60)
    pipeline.states = pipeline.machine(folder=tmp_path)
    pipeline.states.end_interrupted(pipeline.table)
    said = show(pipeline, batch)
    assert (said["state"], said["done"], bool(said["finished"])) == ("cancelled", 0, True)


def test_a_batch_whose_end_the_table_has_lost_can_be_redriven(pipeline: Pipeline, tmp_path: Path) -> None:
    """The local table is saved a second after each change, and executions at once."""
    pipeline.states = pipeline.machine(folder=tmp_path)
    images, batch = begun(pipeline, 60)
    key = {"pk": {"S": f"BATCH#{batch}"}, "sk": {"S": "BATCH"}}
    before = pipeline.dynamodb.get_item(TableName=pipeline.table, Key=key)["Item"]
    pipeline.drain()
    pipeline.dynamodb.put_item(TableName=pipeline.table, Item=before)
    pipeline.states = pipeline.machine(folder=tmp_path)
    pipeline.states.end_interrupted(pipeline.table)
    assert show(pipeline, batch)["state"] == "cancelled"
    assert redrive(pipeline, batch)[1]["state"] == "running"
    pipeline.drain()
    check_whole(pipeline, batch, images)
