"""``carsight batch``: submitting lists and fetching their results, by the public API."""

from __future__ import annotations

import argparse
import json
import mimetypes
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from urllib3 import encode_multipart_formdata

from carsight_service.cli.client import Client, add_api, add_caller, polls
from carsight_service.cli.installation import Installation, add_verb
from carsight_service.cli.output import CommandError, NoAnswer, print_json, print_table

INLINE_BYTES, INLINE_ROWS = 4_000_000, 10_000
"""The largest list that is sent within the request; a larger one is uploaded to the bucket first."""

_FORMATS = {".csv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_TYPES = {"csv": "application/csv", "jsonl": "application/jsonl"}
"""Content types of lists. Not ``text/*``, which API Gateway always treats as UTF-8."""

_PATIENCE = 60
"""How many successive polls, some seconds each, may get no answer: a batch is watched for hours."""

_ID = re.compile(r"[0-9a-f]{32}")
_FILES = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "manifest": "manifest.json"}
"""File name endings of the kinds of results."""

BatchJson = dict[str, Any]
"""A batch as the API answers (``http.batches.BatchAnswer``), at the end with the paths of its ``files``."""


def batch(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight batch``."""
    actions = parser.add_subparsers(metavar="VERB", required=True)

    def action(
        name: str, text: str, run: Callable[[Client, argparse.Namespace], BatchJson]
    ) -> argparse.ArgumentParser:
        added = add_verb(actions, name, text, partial(_shown, run))
        add_caller(added)
        return added

    create = action("create", "send a list, watch it being read, and fetch the results", _create)
    create.add_argument(
        "list",
        metavar="LIST",
        help="a file (CSV, JSON, JSON Lines, Parquet), s3://bucket/list.csv, or s3://bucket/photos/",
    )
    add_api(create)
    create.add_argument(
        "--regions", metavar="CODES", help="where plates are expected to be from, such as us-ca,de"
    )
    status = action("status", "show a batch's progress", _status)
    watch = action("watch", "watch a batch until it ends, and fetch the results", _watch)
    stop = action("stop", "stop a batch, and keep what it has read", _stop)
    redrive = action("redrive", "read what a failed or stopped batch has not read", _redrive)
    results = action("results", "fetch the results of a batch that has ended", _fetch)
    for added in (status, watch, stop, redrive, results):
        added.add_argument("id", metavar="ID", type=_batch_id, help="the id printed by `create`")
    for added in (create, redrive):
        added.add_argument("--detach", action="store_true", help="print the batch's id and do not wait")
    for added in (create, watch, redrive, results):
        added.add_argument(
            "--output",
            type=Path,
            default=Path(),
            metavar="DIR",
            help="where to put the results (default: here)",
        )


def _batch_id(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a batch's id, which has 32 characters of 0-9 and a-f"
        )
    return text


def _shown(
    run: Callable[[Client, argparse.Namespace], BatchJson],
    installation: Installation,
    options: argparse.Namespace,
) -> None:
    """Run an action, and print the state of the batch afterwards."""
    if folder := getattr(options, "output", None):
        try:  # now and not at the end, as a batch may take hours
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{folder}: {error.strerror}") from error
    made = run(Client(installation, options.key), options)
    files = made.pop("files", None)
    if options.json:
        print_json(made if files is None else {**made, "results": files})
    elif getattr(options, "detach", False):
        print(made["id"])
    else:
        columns = ("id", "state", "rows", "read", "failed", "pending", "running")
        names = [name for name in columns if made.get(name) is not None]
        print_table([name.upper() for name in names], [[made[name] for name in names]])
        print("\n".join((files or {}).values()), end="\n" if files else "")
    if made["state"] == "failed":
        again = f"the batch has failed: `carsight batch redrive {made['id']}` reads what is missing"
        raise CommandError(made.get("detail") or again)
    if made.get("detail"):
        print(f"carsight: {made['detail']}", file=sys.stderr)


# -- actions -------------------------------------------------------------------------------------------------


def _create(client: Client, options: argparse.Namespace) -> BatchJson:
    wanted = {"api": options.api, **({"regions": options.regions} if options.regions else {})}
    if options.list.startswith("s3://"):
        return _begun(client, options, _call(client, "", wanted | {"list": options.list}))
    path = Path(options.list)
    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    is_packed = path.suffix.lower() == ".gz"
    suffix = (Path(path.stem) if is_packed else path).suffix.lower()
    form = _FORMATS.get(suffix)
    if (form is None and suffix != ".json") or (is_packed and form not in _TYPES):
        raise CommandError(
            f"{path.name}: a list must end in .csv, .json, .jsonl or .parquet, or in .csv.gz or .jsonl.gz"
        )
    if form is None or (form in _TYPES and not is_packed and _fits(path)):
        query = urlencode(wanted, safe=",")
        made = _call(client, f"?{query}", path.read_bytes(), _TYPES.get(form or "", "application/json"))
    else:
        made = _call(client, "", wanted | {"list": _put(client, path, form)})
    return _begun(client, options, made)


def _redrive(client: Client, options: argparse.Namespace) -> BatchJson:
    return _begun(client, options, _call(client, f"/{options.id}/redrive", {}))


def _begun(client: Client, options: argparse.Namespace, made: BatchJson) -> BatchJson:
    return made if options.detach else _followed(client, options, made)


def _status(client: Client, options: argparse.Namespace) -> BatchJson:
    return client.call("GET", f"/v1/batches/{options.id}")


def _watch(client: Client, options: argparse.Namespace) -> BatchJson:
    return _followed(client, options, _status(client, options))


def _stop(client: Client, options: argparse.Namespace) -> BatchJson:
    return client.call("DELETE", f"/v1/batches/{options.id}")


def _fetch(client: Client, options: argparse.Namespace) -> BatchJson:
    made = _status(client, options)
    if not made["results"]:
        raise CommandError(f"the batch has not ended yet: carsight batch watch {options.id}")
    return _with_files(client, made, options.output)


def _call(
    client: Client, path: str, body: Mapping[str, Any] | bytes, content_type: str = "application/json"
) -> BatchJson:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.call("POST", f"/v1/batches{path}", sent, content_type, token=secrets.token_hex(16))


# -- lists ---------------------------------------------------------------------------------------------------


def _fits(path: Path) -> bool:
    """Return whether the list at ``path`` can be sent within the request."""
    if path.stat().st_size > INLINE_BYTES:
        return False
    with path.open("rb") as file:
        return sum(1 for _ in file) <= INLINE_ROWS


def _put(client: Client, path: Path, form: str) -> str:
    """Upload the list at ``path`` to the service's bucket; return its name there."""
    body = json.dumps({"format": form}).encode()
    offer = client.call("POST", "/v1/batches/lists", body, "application/json")
    if not 1 <= path.stat().st_size <= offer["max_bytes"]:
        raise CommandError(f"{path.name} must have 1 to {offer['max_bytes']:,} bytes")
    client.send_form(offer["url"], *_form(offer["fields"], path))
    name: str = offer["list"]
    return name


def _form(fields: Mapping[str, str], path: Path) -> tuple[Iterator[bytes], dict[str, str]]:
    """Return a form with a file at its end, read while it is sent, as lists may be larger than memory."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    file = (f"list{path.suffix}", b"", kind)
    form, content_type = encode_multipart_formdata([*fields.items(), ("file", file)])
    head, boundary, end = form.rpartition(b"\r\n--")

    def pieces() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            yield from iter(partial(file.read, 1 << 20), b"")
        yield boundary + end

    length = len(form) + path.stat().st_size
    return pieces(), {"content-type": content_type, "content-length": str(length)}


# -- watching ------------------------------------------------------------------------------------------------


def _followed(client: Client, options: argparse.Namespace, made: BatchJson) -> BatchJson:
    """Show a batch's progress until it ends, and fetch its results."""
    from tqdm import tqdm

    try:
        with tqdm(total=made["rows"], initial=made["done"], unit="row", disable=None, leave=False) as bar:
            unanswered = 0
            for _ in polls():
                bar.total = made["rows"]
                bar.set_postfix_str(f"{made['read']} read, {made['failed']} failed", refresh=False)
                bar.update(made["done"] - bar.n)
                if made["results"]:
                    break
                try:
                    made, unanswered = client.call("GET", f"/v1/batches/{made['id']}"), 0
                except NoAnswer:
                    unanswered += 1
                    if unanswered == _PATIENCE:
                        raise
        return _with_files(client, made, options.output)
    except (KeyboardInterrupt, CommandError):
        print(f"carsight: the batch is not lost: `carsight batch watch {made['id']}`", file=sys.stderr)
        raise


def _with_files(client: Client, made: BatchJson, folder: Path) -> BatchJson:
    """Fetch the results of a batch that has ended, and return it with their paths as ``files``.

    Addresses are valid for an hour, and a large file may take as long, so each is requested when it is
    needed.
    """
    files: dict[str, str] = {}
    for kind, ending in _FILES.items():
        file = folder / f"batch-{made['id']}.{ending}"
        made = client.call("GET", f"/v1/batches/{made['id']}") if files else made
        if not made["results"]:
            raise CommandError(
                f"the batch was redriven while its results were fetched: carsight batch watch {made['id']}"
            )
        client.download(made["results"][kind], file)
        files[kind] = str(file)
    return {**made, "files": files}
