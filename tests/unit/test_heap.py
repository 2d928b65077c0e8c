"""Memory that is free goes back to the system, where a process has grown."""

from __future__ import annotations

import pytest

from carsight_service.aws import heap
from carsight_service.aws.heap import SLACK, Heap


@pytest.fixture
def trimmed(monkeypatch: pytest.MonkeyPatch) -> tuple[Heap, list[int], list[int]]:
    """A heap, the sizes that the process will have, and the calls of ``malloc_trim``."""
    sizes: list[int] = []
    calls: list[int] = []
    monkeypatch.setattr(heap, "resident_bytes", lambda: sizes.pop(0))
    one = Heap()
    monkeypatch.setattr(one, "_malloc_trim", calls.append)
    return one, sizes, calls


def test_nothing_is_trimmed_until_the_process_has_grown(
    trimmed: tuple[Heap, list[int], list[int]],
) -> None:
    one, sizes, calls = trimmed
    sizes += [100, 100 + SLACK]
    one.trim()
    one.trim()
    assert calls == []


def test_growth_is_measured_from_the_last_trim(
    trimmed: tuple[Heap, list[int], list[int]],
) -> None:
    one, sizes, calls = trimmed
    sizes += [100, 101 + SLACK, 90 + SLACK, 91 + 2 * SLACK, 200]
    for _ in range(3):
        one.trim()
    assert (calls, sizes) == ([0, 0], [])


def test_free_memory_below_a_block_in_use_is_returned() -> None:
    one = Heap()
    if one._malloc_trim is None:
        pytest.skip("the C library is not glibc")
    one._malloc_trim(0)  # what other tests have left free would be taken first
    one.trim()
    pieces = [bytearray(50_000) for _ in range(2_000)]
    stays = pieces[-1]
    full = heap.resident_bytes()
    del pieces
    one.trim()
    assert heap.resident_bytes() < full - 50_000_000
    assert len(stays) == 50_000
