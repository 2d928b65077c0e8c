"""A long mixed stream of requests against each function's handler: whether memory and latency stay flat.

    python -m benchmarks.soak [--requests 100000] [--seed 1] [--csv FILE] [--plot FILE]

Each handler runs in a process of its own, the real one with the real models: plates take seven requests of
ten, VINs the others. A third of them are photos, which show something or do not, of many sizes and three
formats, sent as JSON with base64, as a form, as bytes or as a URL of this machine; one in six is a broken
picture; the others are refused before any picture is looked at. The key is counted by the real client in a
store in another process. Resident memory and latency are taken every 500 requests and at the end.
"""

from __future__ import annotations

import argparse
import base64
import csv
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.calls import KEY, PATHS, TABLE, Invocation
from carsight_service.aws.heap import resident_bytes
from tests.serving import serving_photos

ROOT = Path(__file__).resolve().parents[1]
SHARE = {"plate": 0.7, "vin": 0.3}
PHOTOS = 400
EVERY = 500
COLUMNS = ("api", "request", "rss_mb", "cpu_ms", "cpu_ms_p99", "ms", "ms_p99", "answers")

Body = tuple[bytes, str]
"""A body and its content type."""


# -- what is sent --------------------------------------------------------------------------------------------


class Stream:
    """Requests in the order of a seed, as API Gateway's events."""

    def __init__(self, api: str, seed: int, address: str) -> None:
        self._api = api
        self._address = address
        self._random = random.Random(f"{api}-{seed}")
        self._samples = {
            name: cv2.imread(str(ROOT / "tests" / "data" / name))
            for name in (
                ("plate_us.jpg", "plate_de.jpg", "no_plate.jpg")
                if api == "plate"
                else ("vin_label.jpg", "vin_plate.jpg", "label_without_vin.jpg")
            )
        }
        self.photo = b""
        """What is served under the URL that was sent last."""
        self._photos = [self._drawn(large=number < 4) for number in range(PHOTOS)]

    def event(self) -> dict[str, Any]:
        """Return the next request."""
        draw = self._random.random()
        key, path, method = KEY, PATHS[self._api], "POST"
        if draw < 0.33:
            body, content_type = self._sent(self._random.choice(self._photos))
        elif draw < 0.50:
            body, content_type = self._sent(self._broken(self._random.choice(self._photos[4:])))
        elif draw < 0.97:
            body, content_type = self._malformed()
        else:
            body, content_type = b"{}", "application/json"
            key = self._random.choice(["", "cs_unknown", "x" * 3_000])
            path = self._random.choice([path, "/nowhere", path + "/"])
            method = self._random.choice(["POST", "GET"])
        is_text = content_type.startswith(("application/json", "text/"))
        return {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": f"key={key}",
            "headers": {"content-type": content_type},
            "requestContext": {"requestId": "soak", "http": {"method": method, "path": path}},
            "body": body.decode() if is_text else base64.b64encode(body).decode(),
            "isBase64Encoded": not is_text,
        }

    def _drawn(self, *, large: bool) -> bytes:
        """Return a photo: three of five show what is asked for; a large one is as a camera takes them."""
        draw = self._random
        if large or draw.random() < 0.6:
            names = list(self._samples)[:2]
        else:
            names = list(self._samples)[2:] if draw.random() < 0.2 else []
        extension = draw.choice([".jpg"] * 8 + [".png", ".webp"])
        if not names:
            width = draw.randrange(48, 200)
            level, grain = draw.randrange(256), np.random.default_rng(draw.randrange(1 << 30))
            pixels = np.clip(grain.normal(level, 12, (width * 3 // 4, width, 3)), 0, 255).astype(np.uint8)
        else:
            photo = self._samples[draw.choice(names)]
            assert photo is not None
            width = 4000 if large else draw.randrange(240, 520)
            height = round(width * photo.shape[0] / photo.shape[1])
            how = cv2.INTER_AREA if width < photo.shape[1] else cv2.INTER_CUBIC
            pixels = cv2.resize(photo, (width, height), interpolation=how).astype(np.uint8)
        return cv2.imencode(".jpg" if large else extension, pixels)[1].tobytes()

    def _broken(self, photo: bytes) -> bytes:
        """Return ``photo`` cut short, or with some of its bytes changed."""
        draw = self._random
        if draw.random() < 0.3:
            return photo[: draw.randrange(len(photo))]
        changed = bytearray(photo)
        for _ in range(draw.choice([1, 3, 20])):
            changed[draw.randrange(min(len(changed), draw.choice([64, 700, 1 << 20])))] = draw.randrange(256)
        return bytes(changed)

    def _sent(self, photo: bytes) -> Body:
        way = self._random.randrange(5)
        if way <= 1:
            field = self._random.choice(["image", "upload_url", "imageUrl"])
            return json.dumps({field: base64.b64encode(photo).decode()}).encode(), "application/json"
        if way == 2:
            head = b'--b\r\nContent-Disposition: form-data; name="upload"; filename="a.jpg"\r\n\r\n'
            return head + photo + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"
        if way == 3:
            return photo, "image/jpeg"
        url = f"{self._address}/{base64.urlsafe_b64encode(photo[:24]).decode()}?{len(photo)}"
        self.photo = photo
        return json.dumps({"image_url": url}).encode(), "application/json"

    def _malformed(self) -> Body:
        draw = self._random
        text = draw.choice(
            [
                "{}",
                "",
                "{" * draw.randrange(1, 2_000),
                json.dumps({"image": "not base64 ]["}),
                json.dumps({"image": "http://169.254.169.254/latest/meta-data"}),
                json.dumps({"image": f"{self._address}/nothing", "regions": ["xx"]}),
                json.dumps({"image": base64.b64encode(b"\x89PNG\r\n\x1a\n" + draw.randbytes(99)).decode()}),
                "x" * draw.randrange(1, 20_000),
            ]
        )
        types = ["application/json", "text/plain", "application/x-www-form-urlencoded"]
        return text.encode(), draw.choice([*types, "multipart/form-data; boundary=zz"])


# -- one handler ---------------------------------------------------------------------------------------------


def soak(api: str, requests: int, seed: int, report: Callable[[Sequence[object]], None]) -> None:
    """Send ``requests`` to the handler of ``api``, and report on every ``EVERY`` of them and on the rest."""
    handle = import_module(f"functions.{api}.app").lambda_handler
    with serving_photos(lambda path: None if path == "/nothing" else stream.photo) as address:
        stream = Stream(api, seed, address)
        cpu: list[float] = []
        wall: list[float] = []
        answers: dict[int, int] = {}
        for number in range(1, requests + 1):
            event = stream.event()
            before = time.process_time(), time.perf_counter()
            answer = handle(event, Invocation())
            cpu.append((time.process_time() - before[0]) * 1000)
            wall.append((time.perf_counter() - before[1]) * 1000)
            answers[answer["statusCode"]] = answers.get(answer["statusCode"], 0) + 1
            if answer["statusCode"] >= 500:
                print(f"{api} {number}: {answer['body'][:200]}", file=sys.stderr, flush=True)
            if number % EVERY == 0 or number == requests:
                taken = [
                    part
                    for times in (cpu, wall)
                    for part in (statistics.median(times), sorted(times)[int(len(times) * 0.99)])
                ]
                counted = " ".join(f"{status}:{count}" for status, count in sorted(answers.items()))
                report(
                    (api, number, f"{resident_bytes() / 1e6:.1f}", *(f"{ms:.2f}" for ms in taken), counted)
                )
                cpu.clear()
                wall.clear()


def child(api: str, requests: int, seed: int) -> None:
    """Soak one handler, and write the rows to standard output."""
    cv2.setNumThreads(1)
    rows = csv.writer(os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"))
    gc.collect()
    with Path(os.devnull).open("w") as log, redirect_stdout(log):
        soak(api, requests, seed, rows.writerow)


# -- all of them ---------------------------------------------------------------------------------------------


def run(requests: int, seed: int) -> list[list[str]]:
    """Soak every handler at once, over one store; return the rows."""
    from local.stores import credentials
    from tests.dynamo import FakeDynamo, serve

    with serve(FakeDynamo()) as address:
        os.environ |= credentials(address)
        from carsight_service.aws.clients import Clients
        from carsight_service.metering.keyring import Keyring

        keyring = Keyring(TABLE, Clients().metering)
        keyring.create(owner="soak@example.com", tier="pro", overage=True, key=KEY)
        environment = {**os.environ, "TABLE_NAME": TABLE, "LOCAL_FETCH": "true"}
        command = [sys.executable, "-m", "benchmarks.soak", "--seed", str(seed)]
        children = [
            subprocess.Popen(
                [*command, "--child", api, "--requests", str(max(1, round(requests * share)))],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for api, share in SHARE.items()
        ]
        rows: list[list[str]] = []

        def collect(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                rows.append(next(csv.reader([line])))
                print(line, end="", flush=True)

        threads = [threading.Thread(target=collect, args=[process]) for process in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if any(process.wait() for process in children):
            raise SystemExit("a handler's process has died")
    return sorted(rows, key=lambda row: (row[0], int(row[1])))


def summary(rows: Sequence[Sequence[str]]) -> str:
    """Say for each handler how memory and latency at the end compare with those near request 1,000.

    Of fewer requests, with those that were reported on first.
    """
    lines = []
    for api in SHARE:
        own = [row for row in rows if row[0] == api]
        first = next((row for row in own if int(row[1]) >= 1000), own[0])
        last = own[-1]
        lines.append(
            f"{api}: RSS {first[2]} MB after {first[1]} requests, {last[2]} MB after {last[1]} "
            f"({float(last[2]) / float(first[2]) - 1:+.1%}), at most {max(float(row[2]) for row in own)} MB; "
            f"CPU-ms p50 {first[3]} and {last[3]}, p99 {first[4]} and {last[4]}; answers {last[7]}"
        )
    return "\n".join(lines)


def plot(rows: Sequence[Sequence[str]]) -> str:
    """Draw memory and CPU time over the requests, as an SVG."""
    colors = {"plate": "#2f6c8f", "vin": "#d0743c"}
    panels = (
        ("Resident memory, MB", (2,)),
        ("CPU-milliseconds a request: median, and 99th percentile (dotted)", (3, 4)),
    )
    longest = max(int(row[1]) for row in rows)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 460" font-family="sans-serif" '
        'font-size="12"><rect width="800" height="460" fill="#fff"/>'
    ]
    for panel, (title, columns) in enumerate(panels):
        top, height = 30 + 220 * panel, 160
        highest = 1.1 * max(float(row[column]) for row in rows for column in columns)
        parts.append(f'<text x="60" y="{top - 10}">{title}</text>')
        for part in range(5):
            y = top + height - height * part / 4
            parts.append(f'<path d="M60 {y:.0f}H780" stroke="#ddd"/>')
            parts.append(f'<text x="52" y="{y + 4:.0f}" text-anchor="end">{highest * part / 4:.0f}</text>')
        for api, color in colors.items():
            for dashed, column in enumerate(columns):
                points = " ".join(
                    f"{60 + 720 * int(row[1]) / longest:.1f},"
                    f"{top + height - height * float(row[column]) / highest:.1f}"
                    for row in rows
                    if row[0] == api
                )
                style = ' stroke-dasharray="2 3"' if dashed else ""
                parts.append(f'<polyline points="{points}" fill="none" stroke="{color}"{style}/>')
    for index, (api, color) in enumerate(colors.items()):
        parts.append(f'<rect x="{600 + 80 * index}" y="12" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{615 + 80 * index}" y="21">{api}</text>')
    parts.append(f'<text x="780" y="450" text-anchor="end">requests, to {longest:,}</text></svg>')
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--child", choices=SHARE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.requests, options.seed)
        return
    rows = run(options.requests, options.seed)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    if options.plot:
        options.plot.write_text(plot(rows), encoding="utf-8")
    print(summary(rows))


if __name__ == "__main__":
    main()
