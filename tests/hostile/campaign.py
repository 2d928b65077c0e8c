"""The campaign: hostile calls by the thousand against the deployed handlers, and what each must keep to.

    python -m tests.hostile.campaign --count 5000 --seed 1 --out campaign.json

No answer of 500 or more, always the contract's envelope, at most 2 CPU-seconds and 300 MB over the idle
process, no death, and nothing counted but what was answered with 200. Call ``n`` of a seed is always the
same: ``--only n`` makes it again.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote_plus

import boto3

from carsight_service.contract.api import Api
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.model import key_id
from local.stores import credentials, serve
from local.template import create_table
from tests.events import event as request
from tests.hostile import calls, pictures, sites
from tests.hostile.calls import KEY, Call

ROOT = Path(__file__).resolve().parents[2]
TABLE, UPLOADS, RESULTS = "carsight-hostile", "carsight-local-uploads", "carsight-local-results"

CPU_SECONDS = 2.0
MEGABYTES = 300.0
"""What one call may take over the idle process."""
ANSWER_BYTES = 6 * 1024 * 1024
"""What Lambda takes of an answer."""
HANG_SECONDS = 45.0
STOPPED_SHARE = 0.02
"""How many calls find a store that cannot be reached."""


@dataclass
class Outcome:
    """What became of one call."""

    number: int
    kind: str
    path: str
    status: int
    cpu: float
    """Seconds."""
    wall: float
    peak: float
    """Megabytes over the idle process."""
    kept: float = 0.0
    """The same once it had been answered."""
    wrong: list[str] = field(default_factory=list)
    """What it did not keep to."""


class Worker:
    """A process that answers calls; another takes its place when it has died or hangs."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def answer(self, name: str, event: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the handler ``name`` makes of ``event`` and what that cost; None where it died."""
        outcome = self._asked(name, event)
        if outcome is None:
            self.stop()
        return outcome

    def _asked(self, name: str, event: dict[str, Any]) -> dict[str, Any] | None:
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((name, event), process.stdin)
            process.stdin.flush()
            if not select.select([process.stdout], [], [], HANG_SECONDS)[0]:
                return None
            outcome: dict[str, Any] = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return outcome

    def start(self) -> subprocess.Popen[bytes]:
        """Return the process that is there, or a new one that has been warmed up."""
        if self._process is not None:
            return self._process
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.worker"],
            cwd=ROOT,
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr if os.environ.get("HOSTILE_LOG") else subprocess.DEVNULL,
        )
        # Idle is a process that has read something of each kind: libraries are loaded and pools are there.
        for path, photo in (("/platerecognition", "plate_us.jpg"), ("/v1/vinocr", "vin_label.jpg")):
            made = request((pictures.DATA / photo).read_bytes(), "image/jpeg", path=path)
            made["headers"]["x-api-key"] = KEY
            for _ in range(2):
                self._asked(function_of(path), dict(made))
        self._asked("idle", {})
        return process

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def function_of(path: str) -> str:
    """Return which function's handler answers ``path``."""
    if path.startswith("upload/") or path not in calls.READING:
        return path if path.startswith("upload/") else "account"
    return "vin" if "vin" in path else "plate"


class Campaign:
    """The stores, the photo servers and the workers; made by ``running``."""

    def __init__(self, address: str, site: str) -> None:
        self._site = site
        environment = {
            **credentials(address),
            "TABLE_NAME": TABLE,
            "UPLOADS_BUCKET": UPLOADS,
            "RESULTS_BUCKET": RESULTS,
            "ALLOWED_BUCKETS": UPLOADS,
            "LOCAL_FETCH": "true",
            "POWERTOOLS_TRACE_DISABLED": "true",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        reach: dict[str, Any] = {
            "endpoint_url": address,
            "region_name": environment["AWS_DEFAULT_REGION"],
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        }
        session = boto3.session.Session()
        dynamodb, sqs = session.client("dynamodb", **reach), session.client("sqs", **reach)
        self._s3 = session.client("s3", **reach)
        create_table(dynamodb, TABLE)
        for bucket in (UPLOADS, RESULTS):
            self._s3.create_bucket(Bucket=bucket)
        for name in ("plate", "vin", "webhooks"):
            environment[f"{name.upper()}_QUEUE_URL"] = sqs.create_queue(QueueName=name)["QueueUrl"]
        # What it runs ends at once: batches are submitted here, and looked at.
        ends = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
        machine = session.client("stepfunctions", **reach).create_state_machine(
            name="batches", definition=json.dumps(ends), roleArn="arn:aws:iam::123456789012:role/batches"
        )
        environment["BATCHES_MACHINE_ARN"] = machine["stateMachineArn"]
        self._keyring = Keyring(TABLE, dynamodb)
        self._keyring.create(owner="owner@example.com", tier="pro", overage=True, key=KEY)
        self._worker = Worker(environment)
        self._without_store = Worker({**environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    def run(self, seed: int, numbers: Iterator[int] | range) -> Iterator[Outcome]:
        """Make the calls ``numbers`` of ``seed``, and judge each."""
        self._worker.start()
        used = self._used()
        for number in numbers:
            chance = Random(f"{seed}/{number}")
            stopped = chance.random() < STOPPED_SHARE
            call = calls.call(chance, self._site)
            event = self._put(call) if call.path.startswith("upload/") else call.event
            worker = self._without_store if stopped else self._worker
            outcome = worker.answer(function_of(call.path), event)
            if not stopped and _is_unavailable(outcome):
                # The embedded store answers one call at a time: on a busy machine it may be late once.
                outcome = worker.answer(function_of(call.path), event)
            now = self._used()
            counted, used = {api: now[api] - used[api] for api in Api}, now
            yield self._judged(number, call, outcome, counted, stopped)

    def close(self) -> None:
        """End the workers."""
        self._worker.stop()
        self._without_store.stop()

    def _used(self) -> dict[Api, int]:
        return {usage.api: usage.current for usage in self._keyring.show(key_id(KEY)).usage}

    def _put(self, call: Call) -> dict[str, Any]:
        """Put the photo into the uploads bucket, and return what S3 would have told the worker."""
        key = f"incoming/{key_id(KEY)}/{call.path.removeprefix('upload/')}/{call.event['name']}"
        etag = self._s3.put_object(Bucket=UPLOADS, Key=key, Body=call.photo)["ETag"].strip('"')
        told = {
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-11-21T08:30:12.345Z",
            "s3": {
                "bucket": {"name": UPLOADS},
                "object": {"key": quote_plus(key), "size": len(call.photo), "eTag": etag, "sequencer": "1"},
            },
        }
        record = {
            "messageId": "1",
            "receiptHandle": "1",
            "body": json.dumps({"Records": [told]}),
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        return {"Records": [record]}

    def _judged(
        self, number: int, call: Call, outcome: dict[str, Any] | None, counted: dict[Api, int], stopped: bool
    ) -> Outcome:
        kind = f"{call.kind}, without a store" if stopped else call.kind
        if outcome is None:
            return Outcome(number, kind, call.path, 0, 0.0, 0.0, 0.0, wrong=["died or hung"])
        judged = Outcome(number, kind, call.path, 0, outcome["cpu"], outcome["wall"], outcome["peak"])
        judged.kept = outcome["kept"]
        if outcome["raised"]:
            judged.wrong.append(f"raised {outcome['raised']}")
            return judged
        if call.path.startswith("upload/"):
            judged.status = 200 if sum(counted.values()) else 400
            if outcome["answer"] != {"batchItemFailures": []} and not stopped:
                judged.wrong.append("the upload is to come again")
        else:
            judged.wrong += _wrong_answer(call, outcome["answer"], stopped)
            judged.status = outcome["answer"].get("statusCode", 0)
            if sum(counted.values()) != (judged.status == 200 and call.path in calls.READING):
                judged.wrong.append(f"counted {sum(counted.values())} for a {judged.status}")
        if judged.cpu > CPU_SECONDS:
            judged.wrong.append(f"{judged.cpu:.1f} CPU-seconds")
        if judged.peak > MEGABYTES:
            judged.wrong.append(f"{judged.peak:.0f} MB")
        return judged


def _is_unavailable(outcome: dict[str, Any] | None) -> bool:
    answer = (outcome or {}).get("answer") or {}
    return answer.get("statusCode") == 503


def _wrong_answer(call: Call, answer: dict[str, Any], stopped: bool) -> list[str]:
    """Return what an answer has that the contract's has not."""
    status, wrong = answer.get("statusCode", 0), []
    if status >= 500 and not (stopped and status in (503, 504)):
        wrong.append(f"status {status}: {answer.get('body', '')[:200]}")
    if len(answer.get("body", "")) > ANSWER_BYTES:
        wrong.append(f"an answer of {len(answer['body']):,} characters")
    if status == 200 and answer["headers"]["content-type"] != "application/json":
        return wrong  # pages for people, and YAML
    try:
        answer["body"].encode()
        body = json.loads(answer["body"])
        assert answer["headers"]["content-type"] == "application/json", answer["headers"]
        assert isinstance(body, dict) and body, body
        assert isinstance(body.get("request_id", ""), str), body
        if status != 200:
            assert body["success"] is False and body["message"] and body["code"], body
    except (AssertionError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong.append(f"no envelope: {error!r}"[:300])
    return wrong


@contextmanager
def running() -> Iterator[Campaign]:
    """Run a campaign's stores, servers and workers until the block is left."""
    with ExitStack() as stack:
        campaign = Campaign(stack.enter_context(serve()), stack.enter_context(sites.serve()))
        stack.callback(campaign.close)
        yield campaign


def table(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Return a row a kind: how many, which statuses, and the worst of each."""
    rows = []
    for kind in sorted({outcome.kind for outcome in outcomes}):
        of = [outcome for outcome in outcomes if outcome.kind == kind]
        rows.append(
            {
                "kind": kind,
                "count": len(of),
                "statuses": dict(sorted(Counter(outcome.status for outcome in of).items())),
                "cpu": round(max(outcome.cpu for outcome in of), 2),
                "megabytes": round(max(outcome.peak for outcome in of)),
                "wrong": sum(bool(outcome.wrong) for outcome in of),
            }
        )
    return rows


def _tell(rows: list[dict[str, Any]]) -> None:
    print(f"{'kind':44} {'count':>6} {'CPU s':>6} {'MB':>5} {'wrong':>5}  statuses")
    for row in rows:
        statuses = " ".join(f"{status}:{count}" for status, count in row["statuses"].items())
        print(
            f"{row['kind']:44} {row['count']:6} {row['cpu']:6.2f} {row['megabytes']:5} {row['wrong']:5}  "
            + statuses
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", help="these calls alone")
    parser.add_argument("--out", type=Path, help="where to write the table, and all that was wrong, as JSON")
    asked = parser.parse_args()
    outcomes, start = [], time.monotonic()
    with running() as campaign:
        for outcome in campaign.run(asked.seed, asked.only or range(asked.count)):
            outcomes.append(outcome)
            if outcome.wrong or asked.only:
                print(f"{asked.seed}/{outcome.number} {outcome}", flush=True)
    rows = table(outcomes)
    wrong = [asdict(outcome) for outcome in outcomes if outcome.wrong]
    _tell(rows)
    print(
        f"{len(outcomes):,} calls of seed {asked.seed}, {len(wrong)} wrong, {time.monotonic() - start:.0f} s"
    )
    if asked.out:
        summary = {"seed": asked.seed, "count": len(outcomes), "kinds": rows, "wrong": wrong}
        asked.out.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
