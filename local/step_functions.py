"""Step Functions on one machine: the state machine of ``template.yaml``, and what is used of its API.

It knows what the definition uses and no more, and refuses a definition that says anything else: what would
be overlooked here must not be deployed. Children run a few at a time, in this process. Whether too many have
failed is looked at when all have run; AWS looks at it as they fail.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError
from jsonata.jsonata import Jsonata

from carsight_service.queue.outcomes import fetched_ahead
from local.gateway import LambdaContext

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROOT = Path(__file__).resolve().parents[1]

DATA_BYTES = 256 * 1024
"""What a state may take and give."""

MACHINE_ARN = "arn:aws:states:us-east-1:123456789012:stateMachine:carsight-local-batches"

Function = Callable[[Any], Any]
"""A Lambda function: an event, and what it answers."""

_FIELDS: Mapping[str, str] = {
    "Choice": "Choices Default",
    "Succeed": "",
    "Task": "Resource Arguments Output TimeoutSeconds Retry Next End",
    "Map": "Label ItemReader ItemSelector ItemBatcher ItemProcessor ResultWriter MaxConcurrency "
    "ToleratedFailurePercentage Next End",
}
_LAMBDA = "arn:aws:states:::lambda:invoke"

_COUNTS = ("pending", "running", "succeeded", "failed", "total")


class StateFailed(Exception):
    """A state has failed for good, by this name."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name, self.cause = name, cause


class Stopped(Exception):
    """The execution was stopped."""


@dataclass(eq=False)
class MapRun:
    """The children of one map, by their place."""

    arn: str
    succeeded: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    """Of rows."""


@dataclass(eq=False)
class Execution:
    """One execution of the machine; ``state`` is where it is, and where a redrive goes on."""

    arn: str
    name: str
    state: str
    data: Any
    status: str = "RUNNING"
    redrives: int = 0
    token: str = ""
    """Of the last redrive."""
    run: MapRun | None = None


def read_definition(template: Mapping[str, Any], machine: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition of a state machine of the template, ``values`` in the place of its resources.

    What ``DefinitionSubstitutions`` takes from a resource or a parameter is looked up in ``values``.
    """
    properties = template["Resources"][machine]["Properties"]
    text = (ROOT / properties["DefinitionUri"]).read_text(encoding="utf-8")
    for name, reference in properties["DefinitionSubstitutions"].items():
        resource = reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0]
        text = text.replace(f"${{{name}}}", {"AWS::Partition": "aws", **values}.get(resource, resource))
    definition: dict[str, Any] = json.loads(text)
    _refuse_what_is_not_known(definition["States"])
    return definition


def machine_of(
    template: Mapping[str, Any],
    values: Mapping[str, str],
    handlers: Mapping[str, Callable[[Any, LambdaContext], Any]],
    **options: Any,
) -> StepFunctions:
    """Return the template's state machine over the ``handlers`` of its functions, by their names there."""
    resources, functions = template["Resources"], {}
    for name, handler in handlers.items():
        functions[name] = partial(_invoke, handler, name, resources[name]["Properties"]["Timeout"])
    defaults = {name: str(about["Default"]) for name, about in template["Parameters"].items()}
    (machine,) = (name for name, one in resources.items() if one["Type"] == "AWS::Serverless::StateMachine")

    def ended(event: dict[str, Any]) -> None:
        for name in functions:
            for trigger in resources[name]["Properties"].get("Events", {}).values():
                if trigger["Type"] == "EventBridgeRule":
                    _try_thrice(functions[name], event)

    return StepFunctions(
        read_definition(template, machine, {**defaults, **values}), functions, ended, **options
    )


def _invoke(handler: Callable[[Any, LambdaContext], Any], name: str, seconds: int, event: Any) -> Any:
    return handler(event, LambdaContext.of(name, float(seconds)))


def _try_thrice(function: Function, event: Any) -> None:
    """Invoke a function as Lambda does where nobody waits for its answer."""
    for attempt in range(3):
        try:
            function(event)
        except Exception:
            if attempt == 2:
                sys.excepthook(*sys.exc_info())
        else:
            return


def _refuse_what_is_not_known(states: Mapping[str, Any]) -> None:
    for name, state in states.items():
        unknown = set(state) - {"Type", "Comment", *_FIELDS[state["Type"]].split()}
        if unknown:
            raise ValueError(f"{name}: {', '.join(sorted(unknown))} is not known here")
        if state["Type"] == "Task" and (
            state["Resource"] != _LAMBDA
            or [retry["ErrorEquals"] for retry in state["Retry"]] != [["States.ALL"]]
        ):
            raise ValueError(
                f"{name}: only functions, and the same patience with every error, are known here"
            )
        if state["Type"] == "Map":
            _refuse_what_is_not_known(state["ItemProcessor"]["States"])


@cache
def _compiled(expression: str) -> Jsonata:
    return Jsonata(expression)


def evaluate(value: Any, states: Mapping[str, Any]) -> Any:
    """Return ``value`` with each ``{% expression %}`` evaluated; ``states`` is JSONata's ``$states``."""
    if isinstance(value, dict):
        return {name: evaluate(part, states) for name, part in value.items()}
    if isinstance(value, list):
        return [evaluate(part, states) for part in value]
    if not (isinstance(value, str) and value.startswith("{%")):
        return value
    expression = _compiled(value.removeprefix("{%").removesuffix("%}").strip())
    frame = expression.create_frame()
    frame.bind("states", states)
    return expression.evaluate(None, frame)


class StepFunctions:
    """One state machine, with botocore's names for what can be asked of it."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        functions: Mapping[str, Function],
        ended: Callable[[dict[str, Any]], object],
        *,
        at_once: int = 1,
        background: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._definition = definition
        self._functions = functions
        self._ended = ended
        self._at_once = at_once
        self._background = background
        self._sleep = sleep
        self._s3 = boto3.client("s3")
        self._executions: dict[str, Execution] = {}
        self._waiting: deque[Execution] = deque()

    # -- the API ---------------------------------------------------------------------------------------------

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: A002, N803
        """Start an execution, once by each name."""
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        if arn not in self._executions:
            execution = Execution(arn, name, self._definition["StartAt"], json.loads(input))
            self._executions[arn] = execution
            self._begin(execution)
        return {"executionArn": arn, "startDate": time.time()}

    def stop_execution(self, *, executionArn: str, cause: str = "") -> dict[str, Any]:  # noqa: N803
        """Begin no more children of an execution."""
        execution = self._find(executionArn)
        if execution.status == "RUNNING":
            execution.status = "ABORTED"
        return {"stopDate": time.time()}

    def redrive_execution(self, *, executionArn: str, clientToken: str = "") -> dict[str, Any]:  # noqa: N803
        """Go on with an execution where it failed or was stopped, once for each ``clientToken``."""
        execution = self._find(executionArn)
        if clientToken and clientToken == execution.token:
            return {"redriveDate": time.time()}
        if execution.status not in ("FAILED", "ABORTED"):
            raise _error("ExecutionNotRedrivable", f"it is {execution.status}", "RedriveExecution")
        # What still runs of the old one finds that it was stopped.
        execution = replace(execution, status="RUNNING", redrives=execution.redrives + 1, token=clientToken)
        self._executions[executionArn] = execution
        self._begin(execution)
        return {"redriveDate": time.time()}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        """Say how an execution stands, and how often it was redriven."""
        execution = self._find(executionArn)
        return {"executionArn": executionArn, "status": execution.status, "redriveCount": execution.redrives}

    def list_map_runs(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        """Say which map an execution runs."""
        run = self._find(executionArn).run
        return {"mapRuns": [{"executionArn": executionArn, "mapRunArn": run.arn}] if run else []}

    def describe_map_run(self, *, mapRunArn: str) -> dict[str, Any]:  # noqa: N803
        """Say how far a map is."""
        for execution in self._executions.values():
            if execution.run and execution.run.arn == mapRunArn:
                about = {"mapRunArn": mapRunArn, "executionArn": execution.arn, "status": execution.status}
                return {**about, "itemCounts": execution.run.counts}
        raise _error("ResourceNotFound", mapRunArn, "DescribeMapRun")

    def _find(self, arn: str) -> Execution:
        if arn not in self._executions:
            raise _error("ExecutionDoesNotExist", arn, "DescribeExecution")
        return self._executions[arn]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer botocore's requests, as a WSGI application."""
        operation = re.sub(r"(?<!^)(?=[A-Z])", "_", environ["HTTP_X_AMZ_TARGET"].rpartition(".")[2]).lower()
        arguments = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        try:
            status, answer = "200 OK", getattr(self, operation)(**arguments)
        except ClientError as error:
            refused = error.response["Error"]
            status, answer = "400 Bad Request", {"__type": refused["Code"], "message": refused["Message"]}
        body = json.dumps(answer).encode()
        kind = ("content-type", "application/x-amz-json-1.0")
        start_response(status, [kind, ("content-length", str(len(body)))])
        return [body]

    def end_what_was_interrupted(self, table: str) -> None:
        """Tell of batches in ``table`` that the machine of an earlier run was reading: they were stopped."""
        pages = (
            boto3.client("dynamodb")
            .get_paginator("scan")
            .paginate(
                TableName=table,
                FilterExpression=(
                    "begins_with(pk, :batch) AND (attribute_type(finished, :null) OR is_unannounced = :yes)"
                ),
                ExpressionAttributeValues={
                    ":batch": {"S": "BATCH#"},
                    ":null": {"S": "NULL"},
                    ":yes": {"BOOL": True},
                },
            )
        )
        for item in (item for page in pages for item in page["Items"]):
            name = item["pk"]["S"].removeprefix("BATCH#")
            detail = {"name": name, "status": "ABORTED", "redriveCount": int(item["redrives"]["N"])}
            self._ended({"source": "aws.states", "detail": detail})

    # -- an execution ----------------------------------------------------------------------------------------

    def _begin(self, execution: Execution) -> None:
        if self._background:
            threading.Thread(target=self._run, args=(execution,), name=execution.name, daemon=True).start()
        else:
            self._waiting.append(execution)

    def drain(self) -> None:
        """Run every execution that has been started or redriven to its end."""
        while self._waiting:
            self._run(self._waiting.popleft())

    def _run(self, execution: Execution) -> None:
        try:
            self._walk(execution)
        except Stopped:
            pass
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failed:  # a reader's, too, which may panic over a broken file
            execution.status = "FAILED"
            print(f"batch {execution.name} has failed: {failed}", file=sys.stderr, flush=True)
        if execution.status in ("FAILED", "ABORTED"):
            detail = {"name": execution.name, "status": execution.status, "redriveCount": execution.redrives}
            self._ended({"source": "aws.states", "detail": {"executionArn": execution.arn, **detail}})

    def _walk(self, execution: Execution) -> None:
        while True:
            if execution.status != "RUNNING":
                raise Stopped
            state = self._definition["States"][execution.state]
            about = {"Name": execution.name, "RedriveCount": execution.redrives}
            states = {
                "input": execution.data,
                "context": {"Execution": about, "State": {"RetryCount": 0}},
            }
            if state["Type"] == "Choice":
                execution.state = next(
                    (one["Next"] for one in state["Choices"] if evaluate(one["Condition"], states) is True),
                    state["Default"],
                )
                continue
            if state["Type"] == "Succeed":
                execution.status = "SUCCEEDED"
                return
            run = self._task if state["Type"] == "Task" else self._map
            output = run(execution, state, states)
            if execution.status != "RUNNING":  # stopped while its last state ran: that is no success
                raise Stopped
            if state.get("End"):
                execution.status = "SUCCEEDED"
                return
            execution.state, execution.data = state["Next"], output

    def _task(self, execution: Execution, state: Mapping[str, Any], states: dict[str, Any]) -> Any:
        """Invoke a function, again and again as the state says."""
        (retry,) = state["Retry"]
        tried = states["context"]["State"]
        while True:
            try:
                arguments = evaluate(state["Arguments"], states)
                answer = self._functions[arguments["FunctionName"]](_transferred(arguments["Payload"]))
                return evaluate(state["Output"], {**states, "result": {"Payload": _transferred(answer)}})
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a worker that dies is an error of its function
                if tried["RetryCount"] == retry["MaxAttempts"]:
                    name = error.name if isinstance(error, StateFailed) else type(error).__name__
                    raise StateFailed(name, str(error)) from error
            seconds = retry["IntervalSeconds"] * retry["BackoffRate"] ** tried["RetryCount"]
            self._sleep(random.uniform(0, min(seconds, retry["MaxDelaySeconds"])))
            if execution.status != "RUNNING":
                raise Stopped
            tried["RetryCount"] += 1

    # -- a map -----------------------------------------------------------------------------------------------

    def _map(self, execution: Execution, state: Mapping[str, Any], states: dict[str, Any]) -> Any:
        """Run the children of a map that have not succeeded yet, a few at a time."""
        writer = evaluate(state["ResultWriter"]["Arguments"], states)
        if execution.run is None:
            machine = execution.arn.replace(":execution:", ":mapRun:").rpartition(":")[0]
            execution.run = MapRun(f"{machine}/{state['Label']}:{uuid.uuid4()}")
        run = execution.run
        counts = run.counts = dict.fromkeys(_COUNTS, 0)
        child = partial(self._child, execution, state)
        at_once = min(self._at_once, evaluate(state["MaxConcurrency"], states))

        def waiting() -> Iterator[tuple[int, Any]]:
            for number, data in enumerate(self._batches(state, states)):
                counts["total"] += len(data["Items"])
                if number in run.succeeded:
                    counts["succeeded"] += len(data["Items"])
                elif execution.status != "RUNNING":
                    return
                else:
                    counts["running"] += len(data["Items"])
                    yield number, data

        with (
            tempfile.TemporaryFile() as failures,
            closing(fetched_ahead(child, waiting(), at_once)) as children,
        ):
            for (number, data), future in children:
                try:
                    future.result()
                    run.succeeded.add(number)
                    outcome = "succeeded"
                except StateFailed as failed:
                    record = {"Input": json.dumps(data), "Error": failed.name, "Cause": failed.cause}
                    failures.write(json.dumps({**record, "Status": "FAILED"}).encode() + b"\n")
                    outcome = "failed"
                counts["running"] -= len(data["Items"])
                counts[outcome] += len(data["Items"])
            if execution.status != "RUNNING":
                raise Stopped
            manifest = self._write(run, writer, failures)
        if counts["failed"] * 100 > state["ToleratedFailurePercentage"] * counts["total"]:
            raise StateFailed("States.ExceedToleratedFailureThreshold", f"{counts['failed']} rows")
        details = {"Bucket": writer["Bucket"], "Key": manifest}
        return {"MapRunArn": run.arn, "ResultWriterDetails": details}

    def _child(self, execution: Execution, state: Mapping[str, Any], numbered: tuple[int, Any]) -> Any:
        processor = state["ItemProcessor"]
        states = {"input": numbered[1], "context": {"State": {"RetryCount": 0}}}
        return self._task(execution, processor["States"][processor["StartAt"]], states)

    def _batches(self, state: Mapping[str, Any], states: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what the children are handed: so many items, and what all of them are told."""
        batcher = state["ItemBatcher"]
        shared = evaluate(batcher["BatchInput"], states)
        items: list[Any] = []
        size = 0
        for index, value in enumerate(self._items(state["ItemReader"], states)):
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

    def _items(self, reader: Mapping[str, Any], states: dict[str, Any]) -> Iterator[Any]:
        arguments = evaluate(reader["Arguments"], states)
        kind = reader.get("ReaderConfig", {}).get("InputType")
        if reader["Resource"].endswith("listObjectsV2"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(**arguments):
                for found in page.get("Contents", ()):
                    yield {"Key": found["Key"], "Size": found["Size"], "Etag": found["ETag"]}
            return
        body = self._s3.get_object(**arguments)["Body"]
        if kind == "JSONL":
            with tempfile.TemporaryFile() as file:  # the reading may take hours
                shutil.copyfileobj(body, file)
                file.seek(0)
                for line in file:
                    item = json.loads(line)
                    if not isinstance(item, dict):  # what Step Functions makes of it is documented nowhere
                        raise StateFailed("States.ItemReaderFailed", "a line is no object")
                    yield item
        elif kind == "PARQUET":
            yield from _parquet(body.read())
        else:
            raise ValueError(f"{kind} is not known here")

    def _write(self, run: MapRun, writer: Mapping[str, str], failures: Any) -> str:
        """Write which children have failed, which is all that is read; return the manifest's key."""
        folder = f"{writer['Prefix']}/{run.arn.rpartition(':')[2]}"
        named: dict[str, list[Any]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
        if size := failures.tell():
            failures.seek(0)
            named["FAILED"].append({"Key": f"{folder}/FAILED_0.jsonl", "Size": size})
            self._s3.put_object(Bucket=writer["Bucket"], Key=f"{folder}/FAILED_0.jsonl", Body=failures)
        manifest = {"DestinationBucket": writer["Bucket"], "MapRunArn": run.arn, "ResultFiles": named}
        key = f"{folder}/manifest.json"
        self._s3.put_object(Bucket=writer["Bucket"], Key=key, Body=json.dumps(manifest).encode())
        return key


def _parquet(data: bytes) -> Iterator[Any]:
    from arro3.io import read_parquet

    for batch in read_parquet(io.BytesIO(data)):
        columns = [batch[name].to_pylist() for name in batch.schema.names]
        for row in zip(*columns, strict=True):
            yield json.loads(json.dumps(dict(zip(batch.schema.names, row, strict=True)), default=str))


def _transferred(value: Any) -> Any:
    """Return ``value`` as it comes out of a state. Raises ``StateFailed`` where it is too large."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text.encode()) > DATA_BYTES:
        raise StateFailed("States.DataLimitExceeded", f"{len(text):,} characters")
    return json.loads(text)


def _error(code: str, message: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)
