"""``carsight upload``: photos in, readings out, by way of the uploads bucket."""

from __future__ import annotations

import argparse
import json
import mimetypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from urllib3 import encode_multipart_formdata

from carsight_service.cli.client import AT_ONCE, Client, add_api, add_caller, polls
from carsight_service.cli.files import find_photos
from carsight_service.cli.installation import Installation, add_options, command
from carsight_service.cli.output import CommandError, print_json, print_table, progress
from carsight_service.contract.api import Api


def upload(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight upload``."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PHOTO|DIR")
    add_api(parser)
    add_caller(parser)
    parser.add_argument("--detach", action="store_true", help="do not wait for the readings")
    parser.add_argument(
        "--patience",
        type=float,
        default=300,
        metavar="SECONDS",
        help="how long to wait for a reading (default: %(default)s)",
    )
    add_options(parser)
    parser.set_defaults(run=command(_upload))


def _send(client: Client, path: Path, name: str, api: Api) -> tuple[str, str]:
    """Upload a photo; return the address of its result, and the photo's eTag."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    wanted = {
        "api": api,
        "name": name,
        "content_type": kind if kind.startswith("image/") else "image/jpeg",
    }
    offer = client.call("POST", "/v1/uploads", json.dumps(wanted).encode(), "application/json")
    if not 1 <= path.stat().st_size <= offer["max_bytes"]:
        raise CommandError(f"must have 1 to {offer['max_bytes']:,} bytes")
    fields = [*offer["fields"].items(), ("file", (path.name, path.read_bytes(), wanted["content_type"]))]
    form, content_type = encode_multipart_formdata(fields)
    answer = client.send_form(offer["url"], form, {"content-type": content_type})
    return offer["result"], answer.headers.get("etag", "").strip('"')


def _result(client: Client, address: str, etag: str, patience: float) -> dict[str, Any]:
    """Wait for the reading of the photo with ``etag``, ignoring that of an earlier photo with its name."""
    for _ in polls(patience):
        answer = client.send("GET", address)
        if answer.status == 200:
            document: dict[str, Any] = json.loads(answer.data)
            if not etag or document.get("etag") == etag:
                return document
        # S3 denies access to a missing object if the caller may not list the bucket.
        elif answer.status != 404 and b"<Code>AccessDenied</Code>" not in answer.data:
            raise CommandError(f"the bucket answered {answer.status}")
    raise CommandError(f"no reading after {patience:g} s")


def _upload(installation: Installation, options: argparse.Namespace) -> None:
    client, photos = Client(installation, options.key), find_photos(options.paths)

    def read(path: Path, name: str) -> dict[str, Any]:
        try:
            address, etag = _send(client, path, name, options.api)
            if options.detach:
                return {"file": str(path), "success": True, "message": "sent"}
            return {"file": str(path), **_result(client, address, etag, options.patience)}
        except (CommandError, OSError) as error:
            return {"file": str(path), "success": False, "message": str(error)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(read, path, name) for path, name in photos]
        list(progress(as_completed(futures), len(futures), "photo"))
    results = [future.result() for future in futures]
    if options.json:
        print_json(results)
    else:
        print_table(("FILE", "STATUS", "READING", "SCORE"), [_row(result) for result in results])
    lost = sum("status" not in result and not result["success"] for result in results)
    if lost:
        raise CommandError(f"{lost} of {len(results)} photos have no result")


def _row(result: dict[str, Any]) -> Sequence[object]:
    """Return a result as a row of the table: the readings, best first, or why there are none."""
    status = str(result.get("status", "-"))
    if result.get("results"):
        plates = result["results"]
        read = ", ".join(f"{plate['plate']} ({plate['region']['code']})" for plate in plates)
        return result["file"], status, read, f"{plates[0]['score']:.3f}"
    if "vin" in result:
        return result["file"], status, result["vin"], f"{result['confidence']:.3f}"
    return result["file"], status, result.get("message", ""), ""
