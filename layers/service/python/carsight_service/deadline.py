"""A bound on how long something may take, whatever it is waiting for."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class OutOfTime(Exception):
    """The call has not come back in time. It may still be running in its thread, unheard."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """``call()``, or ``OutOfTime`` after ``seconds``.

    The call runs in a thread of its own, with the caller's context variables: neither a name server that
    never answers nor a native loop can be interrupted, only left behind. What the call raises is raised here.
    """
    results: list[Result] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            results.append(context.run(call))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="within", daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    if thread.is_alive():
        raise OutOfTime
    if errors:
        # Taken out of the list: an error refers to this frame, and a frame that referred to the error would
        # keep it, and all that the frames of the call hold, until the garbage collector comes.
        raise errors.pop()
    return results.pop()
