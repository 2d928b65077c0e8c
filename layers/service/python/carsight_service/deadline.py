"""A bound on how long something may take, whatever it is waiting for."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class OutOfTime(Exception):
    """The call has not come back in time. It may still be running in its thread, unheard."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """``call()``, or ``OutOfTime`` after ``seconds``.

    The call runs in a thread of its own, with the caller's context variables: neither a name server that
    never answers nor a native loop can be interrupted, only left behind. What the call raises is raised here.
    """
    future: Future[Result] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=work, name="within", daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    if thread.is_alive():
        raise OutOfTime
    return future.result()
