"""Fetching the next items of a stream while one is being processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def fetched_ahead(
    fetch: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Iterator[tuple[Item, Future[Result]]]]:
    """Yield an iterator over each item with its future of ``fetch``, run in threads for ``most`` items ahead.

    What has not begun at the end of the block is not fetched any more, and nothing is waited for.
    """
    pool = ThreadPoolExecutor(most)

    def pairs() -> Generator[tuple[Item, Future[Result]], None, None]:
        ahead: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            ahead.append((item, pool.submit(fetch, item)))
            if len(ahead) == most:
                yield ahead.popleft()
        yield from ahead

    try:
        with closing(pairs()) as following:  # an error's traceback would keep what has been fetched
            yield following
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
