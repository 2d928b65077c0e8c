"""``Idempotency-Key``: a client's retry gets the stored answer, neither counted nor computed again.

Follows draft-ietf-httpapi-idempotency-key-header: 409 while the first request is still being answered, 422
where the token comes back with another request. Imported only when a request carries the header.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)

from carsight_service.contract.api import Api
from carsight_service.contract.errors import IdempotencyKeyReused, RequestInProgress, StoreUnavailable
from carsight_service.lambda_types import Context, Response
from carsight_service.metering.model import key_id

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

    from carsight_service.metering.meter_store import MeterStore

KEPT_SECONDS = 24 * 60 * 60
"""How long an answer is kept for retries."""

WAIT_SECONDS = 10.0
"""How long a retry waits for the request that it repeats; CarsXE's Go client gives up after 15 s."""

_POLL_SECONDS = 0.25

logger = logging.getLogger(__name__)


def once(
    store: MeterStore,
    api: Api,
    key: str,
    token: str,
    fingerprint: str,
    context: Context,
    call: Callable[[], Response],
) -> Response:
    """``call()``, or the answer that it gave before to the same ``key``, ``api`` and ``token``.

    A stored answer carries the header ``idempotent-replayed: true``. What ``call`` raises is raised here and
    not stored: a retry after an error is answered anew. ``fingerprint`` stands for what the request asks for.

    Raises ``IdempotencyKeyReused`` (422) where the token came with another fingerprint, ``RequestInProgress``
    (409) where the first request is not answered within ``WAIT_SECONDS``, ``StoreUnavailable`` (503).
    """
    outcome: list[Response | Exception] = []

    def call_once(*, request: dict[str, str]) -> Response:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)
            raise
        return cast("Response", outcome[-1])

    answer = idempotent_function(
        call_once,
        data_keyword_argument="request",
        persistence_store=DynamoDBPersistenceLayer(
            store.table_name,
            key_attr="pk",
            static_pk_value=f"ONCE#{key_id(key)}",
            sort_key_attr="sk",
            expiry_attr="expires",
            in_progress_expiry_attr="in_progress_expires",
            boto3_client=store.client,
        ),
        config=IdempotencyConfig(
            event_key_jmespath="token",
            payload_validation_jmespath="fingerprint",
            expires_after_seconds=KEPT_SECONDS,
            hash_function="sha256",
            lambda_context=cast("Any", context),
            response_hook=_replayed,
        ),
        key_prefix=api.value,
    )
    deadline = time.monotonic() + min(WAIT_SECONDS, context.get_remaining_time_in_millis() / 1000 - 2)
    while True:
        try:
            return cast("Response", answer(request={"token": token, "fingerprint": fingerprint}))
        except IdempotencyValidationError as error:
            raise IdempotencyKeyReused from error
        except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
            if time.monotonic() > deadline:
                raise RequestInProgress from error
            time.sleep(_POLL_SECONDS)
        except IdempotencyPersistenceLayerError as error:
            if not outcome:
                raise StoreUnavailable("idempotency record not written") from error
            # The request has been answered and counted: losing its record must not lose the answer.
            logger.warning("answer not stored for retries", extra={"reason": type(error.__cause__).__name__})
            if isinstance(outcome[-1], Exception):
                raise outcome[-1] from None
            return outcome[-1]


def _replayed(response: Response, idempotent_data: DataRecord) -> Response:
    return {**response, "headers": {**response["headers"], "idempotent-replayed": "true"}}
