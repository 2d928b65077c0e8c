"""``/v1/auth/validate`` and ``/v1/usage``: what a key's holder is told, and how each refusal looks."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from carsight_service.contract.api import Api
from carsight_service.metering.model import Status, key_id
from tests.fakes import NOW, Service, deploy


@pytest.mark.parametrize("path", ["/v1/auth/validate", "/v1/auth/validate/", "/eu/v1/auth/validate"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_active_key_is_valid(service: Service, path: str, method: str) -> None:
    key = service.key(label="gate 3")
    reply = service.ask(path, method, query=f"key={key}&source=n8n")
    assert reply.status == 200
    assert reply.body == {
        "success": True,
        "active": True,
        "user": {
            "email": "owner@example.com",
            "label": "gate 3",
            "tier": "pro",
            "key": key[:11],
            "created": "2026-03-09T12:00:00+00:00",
        },
        "request_id": "id-1",
    }
    assert service.used(key, Api.PLATE) == 0


def test_a_key_may_come_in_a_header_or_in_the_body(service: Service) -> None:
    key = service.key()
    assert service.ask("/v1/auth/validate", headers={"x-api-key": key}).status == 200
    sent = {"body": json.dumps({"key": key}), "content_type": "application/json"}
    assert service.ask("/v1/auth/validate", "POST", **sent).status == 200


@pytest.mark.parametrize("path", ["/v1/auth/validate", "/v1/usage"])
@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (Status.INACTIVE, 401, "inactive_api_key"),
        (Status.DISABLED, 401, "unknown_api_key"),
        (Status.BLOCKED, 403, "blocked_api_key"),
    ],
)
def test_a_key_that_is_not_served_is_not_valid(
    service: Service, path: str, status: Status, answer: int, code: str
) -> None:
    key = service.key()
    service.keyring.set(key_id(key), status=status)
    reply = service.ask(path, query=f"key={key}")
    assert (reply.status, reply.body["success"], reply.body["code"]) == (answer, False, code)


@pytest.mark.parametrize("path", ["/v1/auth/validate", "/v1/usage"])
def test_a_missing_and_an_unknown_key_are_refused(service: Service, path: str) -> None:
    assert (service.ask(path).status, service.ask(path).body["message"]) == (401, "Missing API key")
    reply = service.ask(path, query="key=unknown")
    assert (reply.status, reply.body["message"]) == (
        401,
        "User with this API key was not found or the API key is disabled",
    )


def test_usage_shows_each_api_and_the_past(service: Service) -> None:
    key = service.key(tier="starter")
    service.store.consume(key, Api.PLATE)
    service.store.consume(key, Api.PLATE)
    april = datetime(2026, 4, 1, tzinfo=UTC)
    service.deployment = deploy(service.table, service.client, lambda: april)
    service.store.consume(key, Api.PLATE)
    reply = service.ask("/v1/usage", query=f"key={key}")
    assert reply.body == {
        "success": True,
        "tier": "starter",
        "usage": [
            {
                "api": "plate_image_recognition",
                "period": "2026-04",
                "current": 1,
                "limit": 200,
                "remaining": 199,
                "overage": True,
            },
            {
                "api": "vin_optical_character_recognition",
                "period": "2026-04",
                "current": 0,
                "limit": 200,
                "remaining": 200,
                "overage": True,
            },
        ],
        "history": [
            {
                "api": "plate_image_recognition",
                "period": f"{NOW:%Y-%m}",
                "current": 2,
                "limit": 200,
                "tier": "starter",
            }
        ],
        "request_id": "id-1",
    }


def test_usage_leaves_out_apis_that_are_not_in_the_plan(service: Service) -> None:
    key = service.key(tier="enterprise", limits={Api.VIN: 5})
    usage = service.ask("/v1/usage", query=f"key={key}").body["usage"]
    assert [one["api"] for one in usage] == ["vin_optical_character_recognition"]


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/auth/validate", "DELETE", "GET, POST, HEAD"),
        ("/v1/usage", "POST", "GET, HEAD"),
        ("/openapi.json", "POST", "GET, HEAD"),
    ],
)
def test_other_methods_are_refused(service: Service, path: str, method: str, allowed: str) -> None:
    reply = service.ask(path, method)
    assert (reply.status, reply.body["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/usage"])
def test_routes_with_get_answer_head(service: Service, path: str) -> None:
    query = f"key={service.key()}"
    assert [service.ask(path, method, query=query).status for method in ("GET", "HEAD")] == [200, 200]
