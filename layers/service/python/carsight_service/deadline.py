"""A bound on how long something may take, whatever it is waiting for."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class OutOfTime(Exception):
    """The call has not come back in time. It may still be running in its thread, unheard."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """``call()``, or ``OutOfTime`` after ``seconds``.

    The call runs in another thread, with the caller's context variables: neither a name server that never
    answers nor a native loop can be interrupted, only left behind. What the call raises is raised here.
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
        # An error refers to this frame, and a frame that referred to the error would keep it, and all that
        # the frames of the call hold, until the garbage collector comes.
        del error


_Outcome = SimpleQueue[tuple[Any, BaseException | None]]
"""Takes what a call has returned, or what it has raised."""


class _Worker:
    """A thread that does one call after the other; a new one for each costs 3 % of a request."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[contextvars.Context, Callable[[], Any], _Outcome]] = SimpleQueue()
        threading.Thread(target=self._work, name="within", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._do(*self.calls.get())

    def _do(self, context: contextvars.Context, call: Callable[[], Any], outcome: _Outcome) -> None:
        """Make a call. Nothing refers to it afterwards: it holds a photo."""
        result, raised = None, None
        try:
            result = context.run(call)
        except BaseException as error:
            raised = error
        # Before the outcome is told, so that whoever waits for it finds a thread for the next call. One that
        # was left behind is idle again when its call comes back after all.
        _idle.append(self)
        outcome.put((result, raised))
        del raised


_idle: deque[_Worker] = deque()
"""Those that have nothing to do; as many as calls were made at once."""
