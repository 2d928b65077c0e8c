"""Reading one photo and charging for it: the same path for calls and uploads.

    begin the charge -> load -> recognize -> complete the charge -> answer -> log

Only a 200 is charged. ``Charge`` decides when and how a unit is counted; the caller delivers the answer. Rows
of batches are charged together (``queue.outcomes``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from carsight_service.contract.api import Answer, Api
from carsight_service.contract.errors import (
    Ending,
    InternalError,
    LimitExceeded,
    RequestTimedOut,
    ServiceError,
    envelope,
)
from carsight_service.deadline import OutOfTime, within
from carsight_service.telemetry import Timer, logger, record, stage, timed

if TYPE_CHECKING:
    from carsight_service.metering.meter_store import MeterStore
    from carsight_service.metering.model import Usage
    from carsight_service.settings import Settings

Recognize = Callable[[bytes, Sequence[str]], Answer]
"""Returns the 200 answer for an image's bytes and the caller's region codes, or raises a ``ServiceError``."""

Answered = TypeVar("Answered")


# -- who is charged ------------------------------------------------------------------------------------------


class Charge(Protocol):
    """One unit of an allowance, for one photo. It is only charged if the photo is answered with a 200."""

    def begin(self) -> Usage:
        """Return the usage before the photo is read. Raises the contract's errors if it may not be read."""
        ...

    def complete(self) -> Usage:
        """Count the unit once a 200 is ready, and return the usage; if this raises, there is no 200."""
        ...


@dataclass(frozen=True, slots=True)
class ByKey:
    """The unit of a call, counted once its answer is ready: a call that ends earlier costs nothing."""

    meters: MeterStore
    key: str = field(repr=False)
    api: Api
    until: float = math.inf
    """When the answer has to be ready (``time.monotonic``)."""

    def begin(self) -> Usage:
        """Check that the key is active and has a unit left."""
        return self.meters.admit(self.key, self.api)

    def complete(self) -> Usage:
        """Count the unit, unless other calls have taken the last one in the meantime."""
        return self.meters.consume(self.key, self.api, until=self.until)


class ByTicket(NamedTuple):
    """The unit of repeatable work, counted with its answer, and only once thanks to its ticket.

    If a run dies after counting, and the work then ends without a 200, the worker refunds the unit.
    """

    meters: MeterStore
    key_id: str
    api: Api
    ticket: str

    def begin(self) -> Usage:
        """Check that the key is active and has a unit left, or one that a run that died has counted."""
        try:
            return self.meters.admit_by_id(self.key_id, self.api)
        except LimitExceeded:
            return self.meters.consume_by_id(self.key_id, self.api, self.ticket)

    def complete(self) -> Usage:
        """Count the unit, unless the ticket has been counted before; the worker settles it later."""
        return self.meters.consume_by_id(self.key_id, self.api, self.ticket)


# -- what is read --------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """One photo to be read."""

    request_id: str
    load: Callable[[], tuple[bytes, Sequence[str]]]
    """Returns the image's bytes and the caller's region codes, or raises a ``ServiceError``."""
    recognize: Recognize
    seconds: float
    """How long loading and reading may take together, in seconds."""
    log_fields: dict[str, Any]
    """Fields of its log line."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one photo: the contract's answer or error envelope."""

    status: int
    body: dict[str, Any]
    error: ServiceError | None = None
    """The reason, unless it is a 200."""
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage, including ``total``."""

    @property
    def is_fault(self) -> bool:
        """Whether it is the service's fault, and worth another attempt."""
        return self.status >= 500


class Reader:
    """Reads photos for one API; safe to share between threads."""

    def __init__(self, api: Api, settings: Settings, timer: Timer) -> None:
        self.api = api
        self._settings = settings
        self._timer = timer

    def read(self, work: Work, charge: Charge) -> Result:
        """Do ``work``, log it and charge for it. Raises nothing."""
        result, timings = self.answered(
            work.log_fields,
            lambda: Result(200, self.attempt(work, charge)[0]),
            lambda error: Result(error.status, envelope(error, work.request_id, self._settings), error),
        )
        result.timings.update({name: round(value, 3) for name, value in timings.items()})
        return result

    def attempt(self, work: Work, charge: Charge) -> tuple[dict[str, Any], Usage]:
        """Return the body of a 200 that has been charged, and the usage.

        Raises a ``ServiceError`` in every other case, and then nothing has been charged.
        """
        with stage("keys"):
            usage = charge.begin()
        work.log_fields.update(tier=usage.tier, key=usage.prefix)
        try:
            body = within(work.seconds, partial(self._body, work))
        except Exception as error:
            refused = translate(error, self.api)
            refused.headers |= usage.headers
            if refused is error:
                raise
            raise refused from error
        with stage("keys"):
            return body, charge.complete()

    def _body(self, work: Work) -> dict[str, Any]:
        with stage("load"):
            image, regions = work.load()
        start = self._timer()
        answer = work.recognize(image, regions)
        return answer.body(work.request_id, (self._timer() - start) * 1000)

    def answered(
        self,
        log_fields: dict[str, Any],
        answer: Callable[[], Answered],
        refuse: Callable[[ServiceError], Answered],
    ) -> tuple[Answered, dict[str, float]]:
        """Return ``answer()``, or ``refuse`` of the error that it raised, and the timings; log both."""
        start = self._timer()
        ending, status = Ending.READ, 200
        with timed(self._timer) as stages:
            try:
                answered = answer()
            except Exception as error:
                refused = translate(error, self.api)
                ending, status = refused.ending, refused.status
                log_fields.update(code=refused.code, detail=refused.note)
                answered = refuse(refused)
                forget_frames(error)
                forget_frames(refused)
        timings = {**stages, "total": (self._timer() - start) * 1000}
        metrics = self._settings.custom_metrics
        record(self.api, ending, timings, {**log_fields, "status": status}, metrics=metrics)
        return answered, timings


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of ``error``, its cause and its context.

    Their frames hold the refused photo's pixels and refer back to the error, so this memory would only be
    freed by the garbage collector.
    """
    while error is not None:
        error.__traceback__ = None
        following = error.__cause__ or error.__context__
        error.__cause__ = error.__context__ = None
        error = following


def translate(error: Exception, api: Api) -> ServiceError:
    """Return the answer to ``error``; an unexpected one is logged with its traceback."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OutOfTime):
        return RequestTimedOut()
    logger.exception("unhandled exception", exc_info=error)
    return InternalError(api)
