"""How the local gateway chooses a route: as API Gateway's HTTP APIs do."""

from __future__ import annotations

import pytest

from local.gateway import _matches, quiet_server


@pytest.mark.parametrize(
    "pattern, path, matches",
    [
        ("/v1/vinocr", "/v1/vinocr", True),
        ("/v1/vinocr", "/v1/vinocr/", False),
        ("/v1/vinocr/{proxy+}", "/v1/vinocr/", True),
        ("/v1/vinocr/{proxy+}", "/v1/vinocr/a/b", True),
        ("/v1/vinocr/{proxy+}", "/v1/vinocr", False),
        ("/v1/batches/{id}", "/v1/batches/7", True),
        ("/v1/batches/{id}", "/v1/batches/", False),
        ("/v1/batches/{id}", "/v1/batches/7/8", False),
        ("/{proxy+}", "/anything", True),
        ("$default", "/anything", False),
    ],
)
def test_a_path_matches_what_api_gateway_would_match(pattern: str, path: str, matches: bool) -> None:
    assert _matches(pattern, path) is matches


def test_what_the_server_accepts_waits_for_its_caller() -> None:
    """Python sees to that if the listening socket has a limit above zero; macOS hands on what it has."""
    server = quiet_server(0, lambda _environment, _start: [])
    try:
        assert server.socket.gettimeout()
    finally:
        server.server_close()
