"""The input of a Distributed Map's children, and the manifest of their results, both in S3."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from local.states_language import StateFailed, evaluate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def batches(
    found: Iterable[Any], state: Mapping[str, Any], states: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the input of each child: its items, and the data that all children share."""
    batcher = state["ItemBatcher"]
    shared = evaluate(batcher["BatchInput"], states)
    items: list[Any] = []
    size = 0
    for index, value in enumerate(found):
        context = {**states["context"], "Map": {"Item": {"Index": index, "Value": value}}}
        item = evaluate(state["ItemSelector"], {**states, "context": context})
        length = len(json.dumps(item, ensure_ascii=False).encode())
        if items and (
            len(items) == batcher["MaxItemsPerBatch"] or size + length > batcher["MaxInputBytesPerBatch"]
        ):
            yield {"BatchInput": shared, "Items": items}
            items, size = [], 0
        items.append(item)
        size += length
    if items:
        yield {"BatchInput": shared, "Items": items}


def objects_of(s3: S3Client, reader: Mapping[str, Any], states: dict[str, Any]) -> list[Any] | None:
    """Return the objects that a map reads, which a redrive does not list again; None if it reads a file."""
    if not reader["Resource"].endswith("listObjectsV2"):
        return None
    pages = s3.get_paginator("list_objects_v2").paginate(**evaluate(reader["Arguments"], states))
    found = (item for page in pages for item in page.get("Contents", ()))
    return [{"Key": item["Key"]} for item in islice(found, reader["ReaderConfig"]["MaxItems"])]


def rows_of(s3: S3Client, reader: Mapping[str, Any], states: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the lines of the file that a map reads."""
    if reader["ReaderConfig"] != {"InputType": "JSONL"}:
        raise ValueError(f"{reader['ReaderConfig']} is not supported here")
    arguments = evaluate(reader["Arguments"], states)
    with tempfile.TemporaryFile() as file:  # reading it may take hours
        s3.download_fileobj(**arguments, Fileobj=file)
        file.seek(0)
        for line in file:
            item = json.loads(line)
            if not isinstance(item, dict):  # AWS does not document how it treats other lines
                raise StateFailed("States.ItemReaderFailed", "a line is not an object")
            yield item


def write_manifest(s3: S3Client, map_run: str, writer: Mapping[str, str], failures: IO[bytes]) -> str:
    """Write the manifest, with failed children only, as nothing else is read; return its key."""
    folder = f"{writer['Prefix']}/{map_run.rpartition(':')[2]}"
    named: dict[str, list[Any]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    if size := failures.tell():
        failures.seek(0)
        named["FAILED"].append({"Key": f"{folder}/FAILED_0.jsonl", "Size": size})
        s3.put_object(Bucket=writer["Bucket"], Key=f"{folder}/FAILED_0.jsonl", Body=failures)
    manifest = {"DestinationBucket": writer["Bucket"], "MapRunArn": map_run, "ResultFiles": named}
    key = f"{folder}/manifest.json"
    s3.put_object(Bucket=writer["Bucket"], Key=key, Body=json.dumps(manifest).encode())
    return key
