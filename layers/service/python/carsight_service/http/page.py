"""The pages for people: one for trying the service (``/``), and one that shows the API (``/docs``).

Each is an HTML document that includes its style and script, so that the content security policy can allow
exactly these by their hashes (W3C Content Security Policy Level 3, section 6.7.3.3). Nothing is loaded from
another origin: Swagger UI, which shows the API, ships in this package.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carsight_service.aws.lambda_types import Response


_FOLDER = Path(__file__).with_name("page")

_KEPT_SECONDS = 86_400
"""How long a browser may cache Swagger UI, which only changes with a deployment."""


@cache
def index() -> Response:
    """``/``: a page for reading photos. The key that is typed there is kept in its tab only."""
    return _document("index.html", "page.js", "blob: data:", css="page.css")


@cache
def docs() -> Response:
    """``/docs``: the API as described by ``/openapi.json``, for reading and trying it."""
    return _document("docs.html", "docs.js", "data:", own_files=True)


@cache
def docs_script() -> Response:
    """``/docs/swagger-ui.js``."""
    return _packed("swagger-ui.js.gz", "text/javascript; charset=utf-8")


@cache
def docs_style() -> Response:
    """``/docs/swagger-ui.css``."""
    return _packed("swagger-ui.css.gz", "text/css; charset=utf-8")


def _document(name: str, js: str, images: str, css: str = "", own_files: bool = False) -> Response:
    """Return the document ``name`` with its style and script, and a policy that allows no others."""
    html = (_FOLDER / name).read_text(encoding="utf-8")
    own = " 'self'" if own_files else ""
    policy = ["default-src 'none'", "connect-src 'self'", f"img-src {images}"]
    for directive, slot, part in (("style-src", "/*css*/", css), ("script-src", "/*js*/", js)):
        hashed = ""
        if part:
            text = (_FOLDER / part).read_text(encoding="utf-8")
            html = html.replace(slot, text)
            hashed = f" 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        policy.append(f"{directive}{own}{hashed}")
    policy += ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return _response(
        html,
        {
            "content-type": "text/html; charset=utf-8",
            "content-security-policy": "; ".join(policy),
            "cache-control": "no-cache",
            "referrer-policy": "no-referrer",
        },
    )


def _packed(name: str, content_type: str) -> Response:
    """Return a file that is stored and sent as gzip, which every browser accepts."""
    body = base64.b64encode((_FOLDER / name).read_bytes()).decode()
    headers = {
        "content-type": content_type,
        "content-encoding": "gzip",
        "cache-control": f"public, max-age={_KEPT_SECONDS}",
    }
    return _response(body, headers, packed=True)


def _response(body: str, headers: Mapping[str, str], packed: bool = False) -> Response:
    return {
        "statusCode": 200,
        "headers": {"x-content-type-options": "nosniff", **headers},
        "body": body,
        "isBase64Encoded": packed,
    }
