"""``Idempotency-Key``: a client's retry gets the stored answer, without reading or counting it again.

Follows draft-ietf-httpapi-idempotency-key-header: 409 while the first request is still being answered, 422
if the token is used with another request. Imported only when a request has the header.
"""

from __future__ import annotations

import base64
import logging
import time
import zlib
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
from carsight_service.metering.model import key_id

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord
    from mypy_boto3_dynamodb import DynamoDBClient

    from carsight_service.aws.lambda_types import Context, Response

KEPT_SECONDS = 24 * 60 * 60
"""How long an answer is stored for retries."""

WAIT_SECONDS = 10.0
"""How long a retry waits for the request it repeats; CarsXE's Go client gives up after 15 s."""

_POLL_SECONDS = 0.25

_PLAIN_CHARACTERS = 50_000
_MAX_CHARACTERS = 390_000
"""The longest answer that is stored, as an item of DynamoDB may have 400 KB."""

_PACKED = "zlib:"
"""Prefix of a compressed answer; others begin with a brace."""

logger = logging.getLogger(__name__)


class Retries:
    """Stored answers. There is one per process, as each persistence layer adds handlers to its client."""

    def __init__(self, table_name: str, client: DynamoDBClient) -> None:
        self._records = _Records(
            table_name,
            key_attr="pk",
            sort_key_attr="sk",
            expiry_attr="expires",
            in_progress_expiry_attr="in_progress_expires",
            boto3_client=client,
        )

    def once(
        self,
        api: Api,
        key: str,
        token: str,
        fingerprint: str,
        context: Context,
        call: Callable[[], Response],
    ) -> Response:
        """Return ``call()``, or its earlier answer to the same ``key``, ``api`` and ``token``.

        A stored answer carries the header ``idempotent-replayed: true``. An error is raised and not stored,
        so a retry after one is computed again. ``fingerprint`` identifies what the request asks for.

        Raises ``IdempotencyKeyReused`` (422) if the token was used with another fingerprint,
        ``RequestInProgress`` (409) if the first request is not answered within ``WAIT_SECONDS``, and
        ``StoreUnavailable`` (503).
        """
        outcome: list[Response | Exception] = []
        answer = self._recorded(call, outcome, context)
        request = {"key_id": key_id(key), "api": api.value, "token": token, "fingerprint": fingerprint}
        deadline = time.monotonic() + min(WAIT_SECONDS, context.get_remaining_time_in_millis() / 1000 - 2)
        while True:
            try:
                return answer(request=request)
            except IdempotencyValidationError as error:
                raise IdempotencyKeyReused from error
            except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
                if time.monotonic() > deadline:
                    raise RequestInProgress from error
                time.sleep(_POLL_SECONDS)
            except IdempotencyPersistenceLayerError as error:
                if not outcome:
                    raise StoreUnavailable("idempotency record not written") from error
                # The request has been answered and counted: a lost record must not lose the answer.
                logger.warning(
                    "answer not stored for retries", extra={"reason": type(error.__cause__).__name__}
                )
                if isinstance(outcome[-1], Exception):
                    raise outcome[-1] from None
                return outcome[-1]

    def _recorded(
        self, call: Callable[[], Response], outcome: list[Response | Exception], context: Context
    ) -> Callable[..., Response]:
        """Return ``call`` recorded by Powertools; ``outcome`` gets what it returns or raises."""

        def noted(*, request: dict[str, str]) -> Response:
            try:
                response = call()
            except Exception as error:
                outcome.append(error)
                raise
            outcome.append(response)
            return response

        recorded: Callable[..., Response] = idempotent_function(
            noted,
            data_keyword_argument="request",
            persistence_store=self._records,
            config=IdempotencyConfig(
                event_key_jmespath="token",
                payload_validation_jmespath="fingerprint",
                expires_after_seconds=KEPT_SECONDS,
                hash_function="sha256",
                lambda_context=cast("Any", context),
                response_hook=_replayed,
            ),
        )
        return recorded


class _Records(DynamoDBPersistenceLayer):
    """Powertools' records, whose names include the API key, so that one layer serves all keys."""

    def _get_hashed_idempotency_key(self, data: dict[str, Any]) -> str:
        return f"{data['key_id']}#{data['api']}#{self._generate_hash(data['token'])}"

    def _get_key(self, idempotency_key: str) -> dict[str, Any]:
        key_id, _, request = idempotency_key.partition("#")
        return {"pk": {"S": f"ONCE#{key_id}"}, "sk": {"S": request}}

    def _update_record(self, data_record: DataRecord) -> None:
        """Store an answer, compressed if long; one too large for DynamoDB leaves no record."""
        if len(data_record.response_data) > _PLAIN_CHARACTERS:
            packed = zlib.compress(data_record.response_data.encode())
            data_record.response_data = _PACKED + base64.b64encode(packed).decode()
        if len(data_record.response_data) > _MAX_CHARACTERS:
            self._delete_record(data_record)
        else:
            super()._update_record(data_record)

    def _item_to_data_record(self, item: dict[str, Any]) -> DataRecord:
        record = super()._item_to_data_record(item)
        if record.response_data and record.response_data.startswith(_PACKED):
            packed = base64.b64decode(record.response_data.removeprefix(_PACKED))
            record.response_data = zlib.decompress(packed).decode()
        return record


def _replayed(response: Response, idempotent_data: DataRecord) -> Response:
    return {**response, "headers": {**response["headers"], "idempotent-replayed": "true"}}
