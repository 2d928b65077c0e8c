#!/usr/bin/env bash
# `with s3.get_object(...)["Body"] as body:` reads past botocore's body, whose checksum nobody compares then.
. "$(dirname "$0")/prepare.bash"
with_packages boto3==1.44.8 botocore==1.44.8
"$python" - <<'PYTHON'
import base64
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import botocore

STORED = b"ten thousand rows"


class Store(BaseHTTPRequestHandler):
    """Sends an object with the checksum it was stored with, and one bit of it turned on the way."""

    def do_GET(self) -> None:
        arrived = bytes([STORED[0] ^ 1]) + STORED[1:]
        self.send_response(200)
        self.send_header("content-length", str(len(arrived)))
        self.send_header("x-amz-checksum-crc32", base64.b64encode(zlib.crc32(STORED).to_bytes(4, "big")).decode())
        self.end_headers()
        self.wfile.write(arrived)

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
s3 = boto3.client("s3", "us-east-1", endpoint_url=address, aws_access_key_id="x", aws_secret_access_key="x")


def read(how: str) -> str:
    body = s3.get_object(Bucket="bucket", Key="key")["Body"]
    try:
        if how == "body.read()":
            return body.read().decode()
        if how == "with body:":
            with body:
                return body.read().decode()
        with body as entered:
            print(f"      entered: {type(entered).__module__}.{type(entered).__name__}, iter_lines: {hasattr(entered, 'iter_lines')}")
            return entered.read().decode()
    except Exception as error:
        return type(error).__name__


print("botocore", botocore.__version__)
print("assumed: however it is read, a body whose checksum differs from what S3 says is refused; `with` gives the body itself")
seen = {how: read(how) for how in ("body.read()", "with body:", "with body as entered:")}
for how, came in seen.items():
    print(f"seen: {how:22} {came}")
sys.exit(list(seen.values()) != ["FlexibleChecksumError", "FlexibleChecksumError", "uen thousand rows"])
PYTHON
