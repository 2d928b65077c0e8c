"""The API's own description, OpenAPI 3.1, served at ``/openapi.json`` and ``/openapi.yaml``.

The schemas of 200s are rendered from the models of the answers, and the examples of errors from the errors
themselves, so that the description cannot differ from what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from carsight_service.contract.api import (
    IMAGE_FIELDS,
    IMAGE_FORMATS,
    IMAGE_LIMITS,
    Api,
    PlateAnswer,
    UsageReport,
    Validation,
    VinAnswer,
)
from carsight_service.contract.errors import (
    REASONS,
    BlockedKey,
    IdempotencyKeyReused,
    ImageTooLarge,
    InactiveKey,
    InternalError,
    InvalidImage,
    InvalidRequest,
    LimitExceeded,
    MethodNotAllowed,
    MissingImage,
    MissingKey,
    NoTextDetected,
    NothingFound,
    PlanWithoutApi,
    RequestInProgress,
    RequestTimedOut,
    ServiceError,
    StoreUnavailable,
    UnknownKey,
    UnknownRegions,
    envelope,
)
from carsight_service.contract.lists import MAX_ROWS
from carsight_service.contract.parts import Part, field_docs, model_of
from carsight_service.http.batches import MAX_BODY_ROWS, BatchAnswer, ListOffer, ListRequest
from carsight_service.http.request import MAX_FIELDS
from carsight_service.http.routes import ROUTES, Operation, Route
from carsight_service.http.snapshot import SnapshotAnswer, Statistics
from carsight_service.http.uploads import UploadOffer, UploadRequest
from carsight_service.metering.model import LIFETIME, Usage
from carsight_service.settings import Links

Document = dict[str, Any]

ANSWERS = (
    PlateAnswer,
    SnapshotAnswer,
    Statistics,
    VinAnswer,
    Validation,
    UsageReport,
    UploadOffer,
    BatchAnswer,
    ListOffer,
)

_JSON = "application/json"
_REQUEST_ID = "JKJaXmPLvHcESHA="
_NOVEMBER = datetime(2026, 11, 21, tzinfo=UTC)


def _ref(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


# -- errors --------------------------------------------------------------------------------------------------


def key_errors(api: Api) -> list[ServiceError]:
    """Return the errors that a key can cause."""
    return [MissingKey(api), UnknownKey(api), InactiveKey(), BlockedKey(), StoreUnavailable()]


def read_errors(api: Api) -> list[ServiceError]:
    """Return the errors that a request to read a photo can end with."""
    month = Usage(api, "", "", "starter", "2026-11", current=200, limit=200, overage=False)
    lifetime = Usage(api, "", "", "sandbox", LIFETIME, current=100, limit=100, overage=False)
    return [
        *key_errors(api),
        PlanWithoutApi(),
        LimitExceeded(month, _NOVEMBER),
        LimitExceeded(lifetime, _NOVEMBER),
        MissingImage(api),
        InvalidImage(),
        ImageTooLarge(),
        *([UnknownRegions(["us-xx"])] if api is Api.PLATE else [NoTextDetected()]),
        InvalidRequest("camera_id must have at most 200 characters"),
        *nothing_found(api),
        RequestInProgress(),
        IdempotencyKeyReused(),
        RequestTimedOut(),
    ]


def nothing_found(api: Api) -> list[ServiceError]:
    """Return a 404 for each reason why nothing is found in a photo."""
    if api is Api.PLATE:
        return [
            NothingFound(api, "no_plate", 0.12),
            NothingFound(api, "plate_too_small", 7.4, 12),
            NothingFound(api, "illegible", 0.01, 0.02),
        ]
    return [
        NothingFound(api, "no_vin", 3),
        NothingFound(api, "not_sure", 0.52, 0.785),
    ]


def error_responses(errors: Iterable[ServiceError]) -> Document:
    """Return the responses by status, each with an example of every error with that status."""
    responses: Document = {}
    for error in errors:
        status = HTTPStatus(error.status)
        response = responses.setdefault(
            str(error.status),
            {
                "description": status.phrase,
                "headers": {},
                "content": {_JSON: {"schema": _ref("schemas", "Error"), "examples": {}}},
            },
        )
        content = response["content"][_JSON]
        examples = content["examples"]
        name = error.code if error.code not in examples else f"{error.code}_{len(examples) + 1}"
        examples[name] = {"value": envelope(error, _REQUEST_ID, Links())}
        for header in error.headers:
            response["headers"][header] = _ref("headers", header)
        if isinstance(error, LimitExceeded):
            content["schema"] = _ref("schemas", "LimitError")
        if isinstance(error, NothingFound):
            content["schema"] = _ref("schemas", "NothingFoundError")
    return dict(sorted(responses.items()))


_ERROR: Document = {
    "type": "object",
    "description": "The body of every response other than a 200. More fields may be added.",
    "required": ["success", "message", "code", "request_id"],
    "properties": {
        "success": {"const": False},
        "message": {"type": "string", "minLength": 1, "description": "CarsXE's text, if it has one."},
        "code": {"type": "string", "pattern": "^[a-z_]+$", "description": "Stable, for programs to compare."},
        "detail": {
            "type": "string",
            "description": "For people: what is wrong and what to do about it. The wording may change.",
        },
        "request_id": {"type": "string", "description": "Identifies the request in the service's log."},
    },
}

_LIMIT_ERROR: Document = {
    **_ERROR,
    "description": "The key's allowance is used up.",
    "required": [*_ERROR["required"], "usage"],
    "properties": {
        **_ERROR["properties"],
        "usage": {
            "type": "object",
            "required": ["current", "limit", "remaining"],
            "properties": {
                "current": {"type": "integer", "minimum": 0},
                "limit": {"type": "integer", "minimum": 0},
                "remaining": {"type": "integer", "minimum": 0},
            },
        },
    },
}

_NOTHING_FOUND: Document = {
    **_ERROR,
    "description": "Nothing was found in the photo, or the path does not exist.",
    "properties": {
        **_ERROR["properties"],
        "reason": {
            "enum": list(REASONS),
            "description": "Why nothing was found. Missing if the path does not exist.",
        },
        "figure": {
            "type": "number",
            "description": (
                "The value that `reason` is based on, unless the request's own options left everything out. "
                "`no_plate`: the highest score of anything like a plate, 0..1. `plate_too_small`: the height "
                "of the largest plate in pixels. `illegible`: the best reading's score, 0..1. `no_vin`: the "
                "number of lines of text and barcodes that were read. `not_sure`: the best VIN's confidence, "
                "0..1."
            ),
        },
        "needed": {
            "type": "number",
            "description": "The smallest `figure` that would have been enough, if that is one number.",
        },
    },
}


# -- requests ------------------------------------------------------------------------------------------------

_IMAGE: Document = {
    "type": "string",
    "minLength": 1,
    "description": (
        "An `http` or `https` URL; base64, with or without a prefix `data:...;base64,`; or `s3://bucket/key` "
        f"if the deployment allows the bucket. {IMAGE_FORMATS}, at most 10 MB and {IMAGE_LIMITS}; as base64, "
        "about 4.4 MB."
    ),
}

_REGIONS: Document = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Plates only: where the car may be from, such as `us-ca` or `de`. A hint, not a filter.",
}


_BINARY: Document = {"type": "string", "format": "binary"}
"""A file, as generators of clients expect it to be declared."""

# Prose says which of the fields are required: `anyOf` with only `required` has no type of its own, and
# generators of clients would turn the whole into `unknown`.
_OPTIONS: Document = {
    "regions": _ref("schemas", "Regions"),
    "text_formats": {
        "type": "array",
        "items": {"type": "string"},
        "description": (
            "Plates only: return only plates whose text matches one of these patterns, such as "
            "`[a-z]{2}[0-9]{2}[a-z]{3}`. A pattern consists of letters, digits and classes, each optionally "
            "followed by `{2}`, `{1,3}` or `?`."
        ),
    },
    "config": {
        "type": "string",
        "description": (
            "Plates only: a JSON object. `region: strict` returns only plates from `regions`, "
            "`detection_rule: strict` only plates whose vehicle was found; `text_formats` is as above. "
            "`detection_mode: vehicle` (`/v1/plate-reader` only) also returns vehicles without a plate."
        ),
    },
}

_RETURNED = "`/v1/plate-reader` only: returned as sent."

_SNAPSHOT_OPTIONS: Document = {
    "mmc": {
        "type": "string",
        "description": "`/v1/plate-reader` only: `true` adds `color`, `orientation` and `model_make`.",
    },
    "camera_id": {"type": "string", "maxLength": 200, "description": _RETURNED},
    "timestamp": {"type": "string", "maxLength": 200, "description": _RETURNED},
}

_IMAGE_REQUEST: Document = {
    "type": "object",
    "description": "One image, in one of the fields " + ", ".join(f"`{name}`" for name in IMAGE_FIELDS) + ".",
    "minProperties": 1,
    "properties": {
        **{name: _ref("schemas", "ImageText") for name in IMAGE_FIELDS},
        "key": {
            "type": "string",
            "description": "The API key, unless it is sent in the query or a header.",
        },
        **_OPTIONS,
        **_SNAPSHOT_OPTIONS,
    },
    "example": {"image_url": "https://example.com/car.jpg"},
}

_IMAGE_FORM: Document = {
    "type": "object",
    "description": "One image, as a file named `upload` or `image`; other names are accepted too.",
    "minProperties": 1,
    "properties": {"upload": _BINARY, "image": _BINARY, **_OPTIONS, **_SNAPSHOT_OPTIONS},
}


_IMAGE_NAME: Document = {
    "type": "string",
    "minLength": 1,
    "description": "The image's URL, `s3://bucket/key`, or its object key in the uploads bucket.",
}

_IMAGES: Document = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BODY_ROWS,
    "items": {
        "anyOf": [
            _IMAGE_NAME,
            {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": _IMAGE_NAME,
                    "id": {
                        "type": ["string", "number"],
                        "description": "Your id for the row, returned with its result; beyond 2^53 as text.",
                    },
                    "regions": _ref("schemas", "Regions"),
                },
            },
        ]
    },
}

_BODIES: Document = {
    "Image": {
        "required": True,
        "description": "One image, in any of these forms.",
        "content": {
            _JSON: {"schema": _ref("schemas", "ImageRequest")},
            "multipart/form-data": {"schema": _ref("schemas", "ImageForm")},
            "text/plain": {"schema": _ref("schemas", "ImageText"), "example": "https://example.com/car.jpg"},
            "image/*": {"schema": _BINARY},
        },
    },
    "Upload": {
        "required": True,
        "content": {_JSON: {"schema": _ref("schemas", UploadRequest.__name__)}},
    },
    "Batch": {
        "required": True,
        "content": {
            _JSON: {
                "schema": {
                    "type": "object",
                    "description": "Either `images`, or `list` with the address of a list of images.",
                    "required": ["api"],
                    "properties": {
                        "api": {"enum": [api.value for api in Api]},
                        "images": _IMAGES,
                        "list": {
                            "type": "string",
                            "description": (
                                "`s3://bucket/list.jsonl` or `.csv`, optionally compressed with gzip "
                                "(`.gz`), or `.parquet`; `s3://bucket/prefix/` for every object under that "
                                "prefix, in a bucket that the deployment allows; or the `list` returned by "
                                f"`/v1/batches/lists`. Up to {MAX_ROWS:,} rows."
                            ),
                        },
                        "regions": _ref("schemas", "Regions"),
                    },
                },
                "example": {
                    "api": "plate",
                    "images": ["https://example.com/1.jpg", "https://example.com/2.jpg"],
                },
            },
            "text/csv": {
                "schema": {
                    "type": "string",
                    "description": (
                        "One image per line; the parameter `api` names the API. In UTF-8; with the content "
                        "type `application/csv` also in UTF-16, Windows-1252 or gzip."
                    ),
                },
                "example": "image_url\nhttps://example.com/1.jpg\n",
            },
            "application/jsonl": {
                "schema": {
                    "type": "string",
                    "description": "One row per line, optionally gzip; the parameter `api` names the API.",
                },
                "example": '{"id": "0815", "image": "https://example.com/1.jpg"}\n',
            },
        },
    },
    "List": {
        "required": True,
        "content": {_JSON: {"schema": _ref("schemas", ListRequest.__name__)}},
    },
}
"""By the name that an ``Operation`` has for its body."""

_PARAMETERS: Document = {
    "api": {
        "name": "api",
        "in": "query",
        "schema": {"enum": [api.value for api in Api]},
        "description": "What to read the images for, unless the body says so.",
    },
    "id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
    "idempotency-key": {
        "name": "idempotency-key",
        "in": "header",
        "schema": {"type": "string", "minLength": 1},
        "description": (
            "Chosen by the client. Repeating a request with the same key within 24 hours returns the stored "
            "200 with `idempotent-replayed: true`, without reading or counting it again. A batch is started "
            "once within 120 days; repeating the request returns its progress."
        ),
    },
    "regions": {"name": "regions", "in": "query", "schema": _ref("schemas", "Regions")},
    "source": {
        "name": "source",
        "in": "query",
        "schema": {"type": "string"},
        "description": "The name of the calling client. Ignored, like every unknown parameter.",
    },
}

_HEADERS: Document = {
    "x-usage-current": {"schema": {"type": "integer"}, "description": "Units counted in the current period."},
    "x-usage-limit": {"schema": {"type": "integer"}, "description": "The limit for the current period."},
    "x-usage-remaining": {
        "schema": {"type": "integer"},
        "description": "Units left, at least 0.",
    },
    "idempotent-replayed": {
        "schema": {"const": "true"},
        "description": "Present if this is a stored response.",
    },
    "allow": {"schema": {"type": "string"}, "description": "The methods that this path accepts."},
}

_SECURITY_SCHEMES: Document = {
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "The way CarsXE's clients send it.",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "Preferred, as query strings end up in logs.",
    },
}


# -- paths ---------------------------------------------------------------------------------------------------

_COUNTED = ("x-usage-current", "x-usage-limit", "x-usage-remaining")
_COUNTED_ERRORS = {"400", "404", "413", "500", "504"}


def _paths() -> Document:
    return {
        route.path: {
            method.lower(): _operation(route, operation) for method, operation in route.operations.items()
        }
        for route in ROUTES
        if route.tag != "Pages"
    }


def _operation(route: Route, operation: Operation) -> Document:
    """Return the description of what a route does for one method."""
    responses = error_responses(_errors(route, operation))
    success: Document = {"description": "OK", "content": _content(route, operation)}
    if route.api is not None:
        for status in _COUNTED_ERRORS & responses.keys():
            responses[status]["headers"] |= {name: _ref("headers", name) for name in _COUNTED}
        success["description"] = "The reading. Only this response counts one unit."
        success["headers"] = {name: _ref("headers", name) for name in _COUNTED}
    if "idempotency-key" in operation.parameters:
        success.setdefault("headers", {})["idempotent-replayed"] = _ref("headers", "idempotent-replayed")
    described: Document = {"operationId": operation.name, "summary": operation.summary, "tags": [route.tag]}
    if route.tag == "Description":
        described["security"] = []
    if operation.parameters:
        described["parameters"] = [_ref("parameters", name) for name in operation.parameters]
    if operation.body:
        described["requestBody"] = _ref("requestBodies", operation.body)
    return {**described, "responses": {"200": success, **responses}}


def _content(route: Route, operation: Operation) -> Document:
    """Return the content of a 200 of ``operation``, by media type."""
    if operation.answer:
        return {_JSON: {"schema": _ref("schemas", operation.answer)}}
    return {
        "application/yaml" if route.path.endswith(".yaml") else _JSON: {"schema": {"type": "object"}},
    }


def _errors(route: Route, operation: Operation) -> list[ServiceError]:
    """Return an example of every error that ``operation`` may end with."""
    always: list[ServiceError] = [MethodNotAllowed(*route.operations), InternalError(route.api or Api.VIN)]
    if route.api is not None:
        return [route.dialect.refusal(error) for error in (*read_errors(route.api), *always)]
    always.append(InvalidRequest(f"A query or form may have at most {MAX_FIELDS} fields"))
    if route.tag == "Description":
        return always
    return [*key_errors(Api.PLATE), *operation.errors(), *always]


_DESCRIPTION = """\
Reads license plates and VINs from photos. Compatible with CarsXE's recognition API, including its errors.

* Only a 200 is a success. Every response is a JSON object that is never empty; fields may be added to it.
* Only a 200 is counted. Once a key's allowance has been checked, responses have `x-usage-*` headers.
* Every path also works with a trailing slash and with the prefix `/eu`. The key may also be sent as
  `Authorization: Bearer ...` or `Authorization: Token ...`, or in the JSON field `key`.
* Any other path returns a 404 in the same format.
"""


def _model(answer: Any) -> type[BaseModel]:
    model: type[BaseModel] = model_of(answer) if issubclass(answer, Part) else answer
    return model


@cache
def document() -> Document:
    """Return the description as one JSON-like object."""
    _, definitions = models_json_schema(
        [
            *((_model(answer), "serialization") for answer in ANSWERS),
            (UploadRequest, "validation"),
            (ListRequest, "validation"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    for model in (UploadRequest, UploadOffer, ListRequest, ListOffer, BatchAnswer):
        fields = definitions["$defs"][model.__name__]["properties"]
        for name, text in field_docs(model, BaseModel).items():
            fields[name]["description"] = text
    schemas = {
        **definitions["$defs"],
        "Error": _ERROR,
        "LimitError": _LIMIT_ERROR,
        "NothingFoundError": _NOTHING_FOUND,
        "ImageText": _IMAGE,
        "ImageRequest": _IMAGE_REQUEST,
        "ImageForm": _IMAGE_FORM,
        "Regions": _REGIONS,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Carsight",
            "version": "1.0.0",
            "summary": "Plates and VINs from photos",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}, {"url": "/eu"}],
        "security": [{"query": []}, {"header": []}],
        "tags": [{"name": name} for name in ("Recognition", "Keys", "Uploads", "Description")],
        "paths": _paths(),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "requestBodies": _BODIES,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


@cache
def as_yaml() -> str:
    """Return the description as YAML, with the same content as ``document()``."""
    import yaml

    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=110)
