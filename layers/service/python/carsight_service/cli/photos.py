"""``carsight upload`` and ``carsight batch``: photos and lists in, readings out, by the public API."""

from __future__ import annotations

import argparse
import json
import mimetypes
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout, encode_multipart_formdata
from urllib3.exceptions import HTTPError

from carsight_service.cli.deployment import Deployment, add_options, command
from carsight_service.cli.files import find_photos
from carsight_service.cli.output import CommandError, print_json, print_table, progress
from carsight_service.contract.api import Api

_AT_ONCE = 8
_POLL_SECONDS = (0.25, 0.5, 1.0, 2.0)
_BATCH_ID = re.compile(r"[0-9a-f]{32}")


def upload(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight upload``."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PHOTO|DIR")
    _add_caller(parser)
    parser.add_argument("--detach", action="store_true", help="do not wait for the readings")
    parser.add_argument(
        "--patience", type=float, default=300, metavar="SECONDS", help="how long to wait for one"
    )
    add_options(parser)
    parser.set_defaults(run=command(_upload))


def batch(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight batch``."""
    parser.description = "Read a list of up to 10,000 URLs or S3 keys: JSON, or CSV where it is called .csv."
    parser.add_argument("list", metavar="LIST|ID", help="a file, or the id of a batch to go on watching")
    _add_caller(parser)
    parser.add_argument("--detach", action="store_true", help="print the batch's id and do not wait for it")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to put the results")
    add_options(parser)
    parser.set_defaults(run=command(_batch))


def _add_caller(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--api", type=Api, choices=list(Api), default=Api.PLATE, metavar="|".join(Api))
    parser.add_argument(
        "--key", default=os.environ.get("CARSIGHT_KEY"), help="API key (default: $CARSIGHT_KEY)"
    )


class Client:
    """The public API of a deployment, called with one key. Safe to share between threads."""

    def __init__(self, deployment: Deployment, key: str | None) -> None:
        local = deployment.resources.get("key") if deployment.endpoint else None
        self._key = key or local
        if not self._key:
            raise CommandError("which key? Give --key or set CARSIGHT_KEY")
        self._url = deployment.resource("url" if deployment.endpoint else "API_URL").rstrip("/")
        self._http = PoolManager(
            maxsize=_AT_ONCE, retries=Retry(3, redirect=False), timeout=Timeout(connect=5, read=60)
        )

    def call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> dict[str, Any]:
        """Make one request. Raises ``CommandError`` with the answer's message where it is not a 200."""
        headers = {"x-api-key": self._key or ""} | ({"content-type": content_type} if content_type else {})
        answer = self.send(method, f"{self._url}{path}", body, headers)
        payload: dict[str, Any] = {}
        with suppress(ValueError):
            payload = json.loads(answer.data)
        if answer.status != 200:
            raise CommandError(f"{path} answered {answer.status}: {payload.get('message', '')}")
        return payload

    def send(self, method: str, url: str, body: bytes | None = None, headers: Any = None) -> BaseHTTPResponse:
        """Send a request to any address. Raises ``CommandError`` where there is no answer."""
        try:
            answer = self._http.request(method, url, body=body, headers=headers)
        except HTTPError as error:
            raise CommandError(f"no answer from {url.partition('?')[0]}: {type(error).__name__}") from error
        return answer

    def upload(self, path: Path, name: str, api: Api) -> tuple[str, str]:
        """Put a photo into the uploads bucket; return the address of its result, and the photo's eTag."""
        kind = mimetypes.guess_type(path.name)[0] or ""
        wanted = {
            "api": api,
            "name": name,
            "content_type": kind if kind.startswith("image/") else "image/jpeg",
        }
        offer = self.call("POST", "/v1/uploads", json.dumps(wanted).encode(), "application/json")
        if path.stat().st_size > offer["max_bytes"]:
            raise CommandError(f"larger than {offer['max_bytes']:,} bytes")
        fields = [*offer["fields"].items(), ("file", (path.name, path.read_bytes(), wanted["content_type"]))]
        form, content_type = encode_multipart_formdata(fields)
        answer = self.send("POST", offer["url"], form, {"content-type": content_type})
        if answer.status not in (200, 201, 204):
            raise CommandError(f"the bucket answered {answer.status}")
        return offer["result"], answer.headers.get("etag", "").strip('"')

    def result(self, address: str, etag: str, patience: float) -> dict[str, Any]:
        """Wait for the reading of the photo with ``etag``, past that of an earlier photo of its name."""
        for _ in _polls(patience):
            answer = self.send("GET", address)
            if answer.status == 200:
                document: dict[str, Any] = json.loads(answer.data)
                if not etag or document.get("etag") == etag:
                    return document
        raise CommandError(f"no reading after {patience:g} s")


def _polls(patience: float) -> Iterator[None]:
    """Yield now and then, less and less often, for ``patience`` seconds."""
    end, turn = time.monotonic() + patience, 0
    while time.monotonic() < end:
        yield
        time.sleep(_POLL_SECONDS[min(turn, len(_POLL_SECONDS) - 1)])
        turn += 1


# -- photos --------------------------------------------------------------------------------------------------


def _upload(deployment: Deployment, options: argparse.Namespace) -> None:
    client, photos = Client(deployment, options.key), find_photos(options.paths)

    def read(path: Path, name: str) -> dict[str, Any]:
        try:
            address, etag = client.upload(path, name, options.api)
            if options.detach:
                return {"file": str(path), "success": True, "message": "sent"}
            return {"file": str(path), **client.result(address, etag, options.patience)}
        except (CommandError, OSError) as error:
            return {"file": str(path), "success": False, "message": str(error)}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = [pool.submit(read, path, name) for path, name in photos]
        list(progress(as_completed(futures), len(futures), "photo"))
    results = [future.result() for future in futures]
    if options.json:
        print_json(results)
    else:
        print_table(("FILE", "STATUS", "READING", "SCORE"), [_row(result) for result in results])
    lost = sum("status" not in result and not result["success"] for result in results)
    if lost:
        raise CommandError(f"{lost} of {len(results)} photos without a result")


def _row(result: dict[str, Any]) -> Sequence[object]:
    """Lay a result out as a line: what was read, best first, or why nothing was."""
    status = str(result.get("status", "-"))
    if result.get("results"):
        plates = result["results"]
        read = ", ".join(f"{plate['plate']} ({plate['region']['code']})" for plate in plates)
        return result["file"], status, read, f"{plates[0]['score']:.3f}"
    if "vin" in result:
        return result["file"], status, result["vin"], f"{result['confidence']:.3f}"
    return result["file"], status, result.get("message", ""), ""


# -- batches -------------------------------------------------------------------------------------------------


def _batch(deployment: Deployment, options: argparse.Namespace) -> None:
    from tqdm import tqdm

    client, path = Client(deployment, options.key), Path(options.list)
    if path.is_file():
        content_type = "text/csv" if path.suffix.lower() == ".csv" else "application/json"
        batch = client.call("POST", f"/v1/batches?api={options.api}", path.read_bytes(), content_type)
    elif _BATCH_ID.fullmatch(options.list):
        batch = client.call("GET", f"/v1/batches/{options.list}")
    else:
        raise CommandError(f"{options.list} is neither a file nor the id of a batch")
    if options.detach:
        print_json(batch) if options.json else print(batch["id"])
        return
    with tqdm(total=batch["rows"], unit="image", disable=None, leave=False) as bar:
        for _ in _polls(float("inf")):
            bar.n = batch["done"]
            bar.set_postfix(read=batch["read"], failed=batch["failed"])
            if batch["state"] != "running":
                break
            batch = client.call("GET", f"/v1/batches/{quote(batch['id'])}")
    if batch["results"] is None:
        raise CommandError(batch.get("detail") or f"the batch is {batch['state']}; send it again")
    files = {}
    for kind, address in batch["results"].items():
        file = options.output / f"batch-{batch['id']}.{kind}"
        file.write_bytes(client.send("GET", address).data)
        files[kind] = str(file)
    if options.json:
        print_json({**batch, "results": files})
    else:
        print_table(
            ("BATCH", "ROWS", "READ", "FAILED"),
            [(batch["id"], batch["rows"], batch["read"], batch["failed"])],
        )
        print("\n".join(files.values()))
