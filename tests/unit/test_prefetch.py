"""Fetching ahead: how far, in which order, and what happens if the work ends early."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from carsight_service.queue.prefetch import fetched_ahead


def test_items_are_taken_only_as_far_ahead_as_asked_and_come_in_their_order() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    ahead: list[int] = []
    found: list[tuple[int, int]] = []
    with fetched_ahead(lambda item: item * item, items(), 4) as fetched:
        for item, future in fetched:
            ahead.append(len(taken) - item)
            found.append((item, future.result()))
    assert found == [(item, item * item) for item in range(20)]
    assert max(ahead) == 4


def test_what_has_not_begun_is_not_fetched_once_the_block_ends() -> None:
    begun: list[int] = []
    may_end = threading.Event()

    def fetch(item: int) -> None:
        begun.append(item)
        may_end.wait(10)

    with pytest.raises(KeyError), fetched_ahead(fetch, range(9), 3) as fetched:
        next(fetched)
        next(fetched)  # the fourth waits for one of the three threads
        raise KeyError
    may_end.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(10)
    assert set(begun) <= {0, 1, 2}


def test_an_error_that_is_kept_does_not_keep_what_was_fetched_ahead() -> None:
    class Photo:
        """What a weak reference can be kept of, unlike bytes."""

    fetched: list[weakref.ref[Photo]] = []

    def fetch(_: int) -> Photo:
        photo = Photo()
        fetched.append(weakref.ref(photo))
        return photo

    def fail() -> None:
        with fetched_ahead(fetch, range(9), 4) as ahead:
            for _, future in ahead:
                wait([future])
                del future
                raise KeyError

    with pytest.raises(KeyError) as error:
        fail()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(10)
    assert error.value.__traceback__ is not None
    assert fetched
    assert [photo() for photo in fetched if photo() is not None] == []
