#!/usr/bin/env bash
# A list that a failing script writes with s3fs is in S3 all the same, up to some row, in place of yesterday's whole one.
. "$(dirname "$0")/prepare.bash"
with_packages s3fs==2026.9.0 aiobotocore==3.10.0 boto3==1.43.117 botocore==1.43.117 'moto[s3,server]==5.2.5' \
  'smart_open[s3]==9.0.2'
cd "$home"
"$python" - 2>/dev/null <<'PYTHON'
import gzip
import os
import sys

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(port=0, verbose=False)
server.start()
address = "http://{}:{}".format(*server.get_host_and_port())
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
os.environ.update(AWS_ENDPOINT_URL=address)
import boto3
import fsspec
import s3fs
import smart_open

s3 = boto3.client("s3")
s3.create_bucket(Bucket="lists")
files = s3fs.S3FileSystem(endpoint_url=address)
PHOTOS = 1000


def rows(fails):
    yield "image_url\n"
    for photo in range(PHOTOS):
        if fails and photo == PHOTOS // 2:
            raise ConnectionError("the database went away")
        yield f"https://example.com/{photo}.jpg\n"


def by_s3fs(fails):
    with files.open("lists/list.csv", "w") as file:
        file.writelines(rows(fails))


def by_s3fs_packed(fails):
    with fsspec.open("s3://lists/list.csv.gz", "w", compression="infer", endpoint_url=address) as file:
        file.writelines(rows(fails))


def by_s3fs_in_a_transaction(fails):
    with files.transaction:
        by_s3fs(fails)


def by_smart_open(fails):
    with smart_open.open("s3://lists/list.csv", "w") as file:
        file.writelines(rows(fails))


def by_smart_open_packed(fails):
    with smart_open.open("s3://lists/list.csv.gz", "w") as file:
        file.writelines(rows(fails))


# How many of the thousand photos are in the list once today's run has failed: yesterday's had them all.
WAYS = {
    "s3fs": (by_s3fs, "list.csv", PHOTOS // 2),
    "s3fs through fsspec.open, gzip": (by_s3fs_packed, "list.csv.gz", PHOTOS // 2),
    "s3fs within fs.transaction": (by_s3fs_in_a_transaction, "list.csv", PHOTOS),
    "smart_open": (by_smart_open, "list.csv", PHOTOS),
    "smart_open, gzip": (by_smart_open_packed, "list.csv.gz", PHOTOS),
}

print("s3fs 2026.9.0, smart_open 9.0.2, moto 5.2.5 as S3")
print("assumed: an object is replaced as a whole or not at all, so that where `with` is left by an error the old list stays")
holds = True
for way, (write, key, wanted) in WAYS.items():
    write(False)
    try:
        write(True)
    except ConnectionError:
        pass
    body = s3.get_object(Bucket="lists", Key=key)["Body"].read()
    listed = (gzip.decompress(body) if key.endswith("gz") else body).decode().splitlines()[1:]
    print(f"seen: {way}: {len(listed)} of {PHOTOS} photos are in the list, and the last row is {listed[-1]}")
    holds = holds and len(listed) == wanted
sys.stdout.flush()
os._exit(not holds)
PYTHON
