"""A time limit for calls that cannot be interrupted."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class OutOfTime(Exception):
    """The call has not returned in time. It may still be running in its thread, but its result is ignored."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return ``call()``, or raise ``OutOfTime`` after ``seconds``.

    The call runs in another thread, with the caller's context variables: neither a name server that never
    answers nor native code can be interrupted, only abandoned. What the call raises is raised here.
    """
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    outcome: _Outcome = SimpleQueue()
    worker.calls.put((contextvars.copy_context(), call, outcome))
    try:
        result, error = outcome.get(timeout=max(seconds, 0.0))
    except Empty:
        raise OutOfTime from None
    if error is None:
        returned: Result = result
        return returned
    try:
        raise error
    finally:
        # The error refers to this frame: if the frame referred to the error, both, and everything held by the
        # frames of the call, would stay until the garbage collector runs.
        del error


_Outcome = SimpleQueue[tuple[Any, BaseException | None]]
"""Receives what a call returned or raised."""


class _Worker:
    """A thread that makes one call after another; a new thread for each costs 3 % of a request."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[contextvars.Context, Callable[[], Any], _Outcome]] = SimpleQueue()
        threading.Thread(target=self._work, name="within", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._do(*self.calls.get())

    def _do(self, context: contextvars.Context, call: Callable[[], Any], outcome: _Outcome) -> None:
        """Make a call, and keep no reference to it afterwards: it holds a photo."""
        result, raised = None, None
        try:
            result = context.run(call)
        except BaseException as error:
            raised = error
        # Become idle before reporting the outcome, so that the waiting caller finds an idle thread for its
        # next call. An abandoned thread becomes idle again once its call returns.
        _idle.append(self)
        outcome.put((result, raised))
        del raised


_idle: deque[_Worker] = deque()
"""Idle workers. There are as many workers as there were ever calls at the same time."""
