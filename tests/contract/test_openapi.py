"""The API's description is valid, complete and true to the code that answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from carsight import formats
from carsight.refusal import Reason
from carsight_service.aws.lambda_types import Response
from carsight_service.contract.api import IMAGE_FORMATS, IMAGE_LIMITS
from carsight_service.contract.errors import ErrorOfApi, NotFound, ObjectGone, ServiceError
from carsight_service.deployment import Deployment
from carsight_service.http import account, openapi
from carsight_service.http.request import FIELDS, MAX_FIELDS
from carsight_service.http.routes import ROUTES
from carsight_service.settings import Settings
from tests.events import Invocation, event

ROOT = Path(__file__).resolve().parents[2]


def ask(path: str) -> Response:
    """The answer to ``GET path`` of a deployment without pages for people."""
    deployment = Deployment(Settings(table_name="carsight", pages=False))
    return account.AccountEndpoint(deployment).handle(event(method="GET", path=path), Invocation())


def test_the_description_is_valid_openapi_3_1() -> None:
    assert openapi.document()["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(openapi.document()).validate()


def test_json_and_yaml_have_the_same_content() -> None:
    assert yaml.safe_load(openapi.as_yaml()) == openapi.document()


@pytest.mark.parametrize(
    ("path", "media_type"), [("/openapi.json", "application/json"), ("/openapi.yaml", "application/yaml")]
)
def test_json_and_yaml_are_served_without_a_key(path: str, media_type: str) -> None:
    answer = ask(path)
    assert answer["statusCode"] == 200
    assert answer["headers"]["content-type"] == media_type
    assert yaml.safe_load(answer["body"]) == openapi.document()


def test_every_operation_has_a_unique_name_and_a_handler() -> None:
    operations = [(route, operation) for route in ROUTES for operation in route.operations.values()]
    names = [operation.name for _, operation in operations]
    assert len(set(names)) == len(names)
    assert {operation.name for route, operation in operations if route.api is None} == set(account.HANDLERS)
    assert len({route.path for route in ROUTES}) == len(ROUTES)


def test_the_described_fields_are_those_that_are_read() -> None:
    schemas = openapi.document()["components"]["schemas"]
    described = {name for kind in ("ImageRequest", "ImageForm") for name in schemas[kind]["properties"]}
    assert described == set(FIELDS)


@pytest.mark.parametrize(
    ("schema", "field", "text"),
    [
        ("PlateResult", "dscore", "The probability that this is a plate."),
        ("SnapshotPlate", "dscore", "The probability that this is a plate."),
        ("Repair", "from", "What the character looks most like."),
        ("BatchAnswer", "read", "Rows with a 200; only these count against the limit."),
        ("ListOffer", "expires_in", "Seconds."),
    ],
)
def test_fields_are_described_by_their_docstrings(schema: str, field: str, text: str) -> None:
    described = openapi.document()["components"]["schemas"][schema]["properties"][field]
    assert described["description"] == text


def test_the_formats_and_limits_are_those_of_the_decoder() -> None:
    assert (IMAGE_FORMATS, IMAGE_LIMITS) == (formats.NAMES, formats.LIMITS)
    described = openapi.document()["components"]["schemas"]["ImageText"]["description"]
    assert IMAGE_FORMATS in described
    assert IMAGE_LIMITS in described
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert IMAGE_FORMATS in readme
    assert IMAGE_LIMITS.replace("50 megapixels ", "") in readme


def test_every_error_says_what_to_do_but_refused_urls() -> None:
    responses = openapi.document()["paths"]["/platerecognition"]["post"]["responses"].values()
    for response in responses:
        for example in response["content"]["application/json"].get("examples", {}).values():
            value = example["value"]
            assert value.get("detail", "").endswith(".") or value["code"] == "invalid_image", value


def test_a_404_gives_its_reason_and_the_figure_behind_it() -> None:
    reasons = set()
    for path in ("/platerecognition", "/v1/vinocr"):
        content = openapi.document()["paths"][path]["post"]["responses"]["404"]["content"]["application/json"]
        for example in content["examples"].values():
            if example["value"]["code"] == "nothing_found":
                assert isinstance(example["value"]["figure"], int | float)
                reasons.add(example["value"]["reason"])
        assert content["schema"] == {"$ref": "#/components/schemas/NothingFoundError"}
    assert reasons == set(get_args(Reason))


def test_every_error_except_those_of_uploads_is_described() -> None:
    described = json.dumps(openapi.document()["paths"])
    kinds = [*ServiceError.__subclasses__(), *ErrorOfApi.__subclasses__()]
    codes = {error.code for error in kinds if error is not ErrorOfApi}
    assert {code for code in codes if f'"{code}"' not in described} == {ObjectGone.code}


def test_errors_of_all_paths_are_described_on_each() -> None:
    """Whoever checks answers against the description is not surprised by one."""
    deployment = Deployment(Settings(table_name="carsight"))
    too_many = "&".join(f"f{number}=1" for number in range(MAX_FIELDS + 1))
    for path, operations in openapi.document()["paths"].items():
        for method, operation in operations.items():
            sent = event(method=method.upper(), path=path) | {"rawQueryString": too_many}
            answer = account.AccountEndpoint(deployment).handle(sent, Invocation())
            assert str(answer["statusCode"]) in operation["responses"], (method, path)
            assert json.loads(answer["body"])["message"].startswith("A query or form may have at most"), path


def test_parameters_next_to_a_list_are_described() -> None:
    """A CSV names neither the API nor regions for all of its rows."""
    described = openapi.document()["paths"]["/v1/batches"]["post"]["parameters"]
    assert {f"#/components/parameters/{name}" for name in ("api", "regions")} <= {
        parameter["$ref"] for parameter in described
    }


@pytest.mark.parametrize("path", ["/platerecognition2", "/v1/usage/more", "/../openapi.json", "//docs"])
def test_any_other_path_is_a_404_in_the_envelope(path: str) -> None:
    answer = ask(path)
    assert answer["statusCode"] == 404
    assert json.loads(answer["body"]) == {
        "success": False,
        "message": "Not found",
        "code": "not_found",
        "detail": NotFound.detail,
        "request_id": "id-1",
    }
