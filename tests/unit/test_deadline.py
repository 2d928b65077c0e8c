"""What is left behind by a call that was bounded in time: nothing."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import InvalidImage, NothingFound, ServiceError
from carsight_service.deadline import OutOfTime, within
from carsight_service.metering.model import Usage
from carsight_service.reading import Reader, Work
from carsight_service.settings import Settings


class Pixels:
    """Something large that a failing call holds on to."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    logging.disable()  # pytest keeps what is logged, and with it the frames of an error
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("error", [ValueError("x"), InvalidImage("x")])
def test_a_failing_call_leaves_nothing_for_the_garbage_collector(error: Exception) -> None:
    left: list[weakref.ref[Pixels]] = []

    def call() -> None:
        pixels = Pixels()
        left.append(weakref.ref(pixels))
        raise type(error)("x")

    with pytest.raises(type(error)):
        within(5, call)
    assert left[0]() is None


@pytest.mark.usefixtures("no_collector")
def test_a_call_leaves_nothing_in_the_thread_that_it_ran_in() -> None:
    left: list[weakref.ref[Pixels]] = []

    def call(given: Pixels) -> Pixels:
        returned = Pixels()
        left.extend((weakref.ref(given), weakref.ref(returned)))
        return returned

    assert isinstance(within(5, partial(call, Pixels())), Pixels)
    within(5, gc.isenabled)  # the thread has come back from the call once it takes the next one
    assert [each() for each in left] == [None, None]


def test_calls_share_a_thread() -> None:
    assert within(5, threading.get_ident) == within(5, threading.get_ident) != threading.get_ident()
    assert within(5, lambda: within(5, threading.get_ident) != threading.get_ident())


class Free:
    """A charge that is none."""

    def begin(self) -> Usage:
        return Usage(Api.PLATE, "", "", "pro", "2026-11", current=1, limit=1, overage=False)

    complete = begin


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("error", [InvalidImage("x"), NothingFound(Api.PLATE), RuntimeError("a fault")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refused_photo_is_released(error: Exception, wrapped: bool) -> None:
    left: list[weakref.ref[Pixels]] = []

    def recognize(image: bytes, regions: Any) -> Answer:
        pixels = Pixels()
        left.append(weakref.ref(pixels))
        if not wrapped:
            raise type(error)(*error.args) if not isinstance(error, NothingFound) else NothingFound(Api.PLATE)
        try:
            int("no number")
        except ValueError as cause:
            raise InvalidImage("no photo") from cause
        raise AssertionError

    reader = Reader(Api.PLATE, Settings(table_name="carsight"), lambda: 0.0)
    result = reader.read(Work("id-1", lambda: (b"", ()), recognize, 5, {}), Free())
    assert isinstance(result.error, ServiceError)
    assert left[0]() is None


def test_a_call_that_does_not_return_in_time() -> None:
    released, threads = threading.Event(), list[int]()

    def call() -> None:
        threads.append(threading.get_ident())
        released.wait(10)

    with pytest.raises(OutOfTime):
        within(0.01, call)
    assert within(5, threading.get_ident) not in threads
    released.set()
