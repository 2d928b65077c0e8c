"""The gateway answers only what ``/openapi.json`` describes, whatever it is sent."""

from __future__ import annotations

import copy
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from carsight_service.http import openapi
from tests.e2e.conftest import Running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
]


def described() -> dict[str, Any]:
    """The description, with batches short enough for every accepted one to be read as well."""
    document = copy.deepcopy(openapi.document())
    batch = document["components"]["requestBodies"]["Batch"]["content"]["application/json"]["schema"]
    batch["properties"]["images"]["maxItems"] = 2
    return document


@schemathesis.serializer("application/jsonl")
def _as_they_are(_context: Any, value: Any) -> Any:
    """Lists are texts already; schemathesis knows how to send JSON, forms and plain text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


thorough = schemathesis.openapi.from_dict(described())
# Without a key there is little behind a route: its boundary cases, by far the most, are left out.
brief = schemathesis.openapi.from_dict(
    described(), config=schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}})
)

some_examples = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@thorough.parametrize()
@some_examples
def test_every_answer_with_a_key_matches_the_description(
    case: schemathesis.Case[Any], gateway: Running
) -> None:
    case.call_and_validate(base_url=gateway.url, params={"key": "demo"}, checks=CHECKS)


@brief.parametrize()
@some_examples
def test_every_answer_without_a_key_matches_the_description(
    case: schemathesis.Case[Any], gateway: Running
) -> None:
    case.call_and_validate(base_url=gateway.url, checks=CHECKS)
