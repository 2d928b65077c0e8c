"""The composition root: the collaborators of one process are created here.

A handler creates one ``Deployment`` when its function starts and passes it on; all other code is given its
collaborators.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from carsight_service.aws.clients import Clients
from carsight_service.aws.dynamo import Clock, utc_now
from carsight_service.aws.heap import Heap
from carsight_service.aws.storage import Storage
from carsight_service.images import ImageLoader
from carsight_service.metering.journal import Journal
from carsight_service.metering.meter_store import MeterStore
from carsight_service.settings import Settings

if TYPE_CHECKING:
    from carsight_service.aws.queues import Queues
    from carsight_service.telemetry import Timer


@dataclass(frozen=True)
class Deployment:
    """Settings, clients, stores and clocks; those that depend on others are created on first use."""

    settings: Settings
    aws: Clients = field(default_factory=Clients)
    clock: Clock = utc_now
    timer: Timer = time.perf_counter
    """The clock that times the stages of a request."""
    heap: Heap = field(default_factory=Heap)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Create a function's deployment, as ``environment`` describes it, and set up its heap and telemetry.

        Raises ``ValueError`` for bad settings.
        """
        from carsight_service import telemetry  # configures logging; commands have no Powertools

        settings = Settings.read(environment)
        deployment = cls(settings)
        deployment.heap.use_one_arena()
        if settings.tracing:
            telemetry.trace()
        return deployment

    @cached_property
    def meters(self) -> MeterStore:
        """Keys and their usage."""
        name = self.settings.table_name
        journal = Journal(Path(os.environ.get("TMPDIR", "/tmp")) / "carsight-calls", name)
        return MeterStore(name, self.aws.meters, self.clock, journal)

    @cached_property
    def images(self) -> ImageLoader:
        """Where the images of requests come from."""
        return ImageLoader(self.settings, self.storage)

    @cached_property
    def storage(self) -> Storage:
        """The buckets of uploads and results."""
        return Storage(self.settings, self.aws)

    @cached_property
    def queues(self) -> Queues:
        """The queues between functions."""
        from carsight_service.aws.queues import Queues  # calls do not need them

        return Queues(self.settings, self.aws)
