"""What ``make run`` keeps from one run to the next: the key table and both buckets, as files of one folder.

The embedded stores live in memory. Their content is written down when the service stops and read again when
it starts; a run that is killed leaves what the one before it had written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import boto3

_ITEMS = "table.jsonl"


def save(folder: Path, table: str, buckets: Sequence[str]) -> None:
    """Write the items of ``table`` and the current objects of ``buckets``; whole or not at all."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    lines = [json.dumps(item) for page in pages for item in page["Items"]]
    (new / _ITEMS).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    s3 = boto3.client("s3")
    for number, bucket in enumerate(buckets):
        kept = new / str(number)
        kept.mkdir()
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                answer = s3.get_object(Bucket=bucket, Key=found["Key"])
                # A key may be longer than a file's name.
                name = hashlib.sha256(found["Key"].encode()).hexdigest()
                (kept / f"{name}.type").write_text(
                    f"{answer['ContentType']}\n{found['Key']}", encoding="utf-8"
                )
                (kept / name).write_bytes(answer["Body"].read())
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def restore(folder: Path, table: str, buckets: Sequence[str]) -> bool:
    """Put back what ``save`` wrote; answers whether there was anything.

    The buckets must not announce their objects yet: these have been read.
    """
    if not folder.is_dir():
        return False
    dynamodb, s3 = boto3.client("dynamodb"), boto3.client("s3")
    for line in (folder / _ITEMS).read_text(encoding="utf-8").splitlines():
        dynamodb.put_item(TableName=table, Item=json.loads(line))
    for number, bucket in enumerate(buckets):
        for about in sorted((folder / str(number)).glob("*.type")):
            content_type, _, key = about.read_text(encoding="utf-8").partition("\n")
            body = about.with_suffix("").read_bytes()
            s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
    return True
