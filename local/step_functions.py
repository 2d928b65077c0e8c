"""Step Functions on one machine: the state machine of ``template.yaml``, and the used part of the API.

It supports only what the definition uses, and refuses any other definition: nothing may be deployed that was
ignored here. Children run a few at a time, in this process. The tolerated share of failures is checked after
all children have run, whereas AWS checks it as they fail.

Executions are kept in a folder, if there is one, so that the next run can redrive an interrupted one. What
its children have done is not kept: each finds out by itself.
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from carsight_service.queue.prefetch import fetched_ahead
from local.functions import LambdaContext
from local.map_items import batches, objects_of, rows_of, write_manifest
from local.states_language import StateFailed, evaluate, read_definition, transferred

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MACHINE_ARN = "arn:aws:states:us-east-1:123456789012:stateMachine:carsight-local-batches"
_EXECUTIONS = MACHINE_ARN.replace(":stateMachine:", ":execution:")

Invoke = Callable[[Any], Any]
"""Invokes a Lambda function with an event, and returns its answer."""

_COUNTS = ("pending", "running", "succeeded", "failed", "total")


class Stopped(Exception):
    """The execution was stopped."""


@dataclass(eq=False)
class MapRun:
    """The run of a map, with its children by their number."""

    arn: str
    objects: list[Any] | None
    """What it reads, unless that is a file."""
    succeeded: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    """Numbers of rows by state."""


@dataclass(eq=False)
class Execution:
    """One execution of the machine; ``state`` is its current state, where a redrive continues."""

    arn: str
    name: str
    state: str
    data: Any
    status: str = "RUNNING"
    redrives: int = 0
    token: str = ""
    """The client token of the last redrive."""
    run: MapRun | None = None


def machine_of(
    template: Mapping[str, Any],
    values: Mapping[str, str],
    handlers: Mapping[str, Callable[[Any, LambdaContext], Any]],
    **options: Any,
) -> StepFunctions:
    """Return the template's state machine; ``handlers`` are functions by their names in the template."""
    resources, functions = template["Resources"], {}
    for name, handler in handlers.items():
        functions[name] = partial(_invoke, handler, resources[name]["Properties"]["Timeout"])
    defaults = {name: str(about["Default"]) for name, about in template["Parameters"].items()}
    kind = "AWS::Serverless::StateMachine"
    (machine,) = (name for name, about in resources.items() if about["Type"] == kind)

    def ended(event: dict[str, Any]) -> None:
        for name in functions:
            for trigger in resources[name]["Properties"].get("Events", {}).values():
                if trigger["Type"] == "EventBridgeRule":
                    _invoke_async(functions[name], event)

    return StepFunctions(
        read_definition(template, machine, {**defaults, **values}), functions, ended, **options
    )


def _invoke(handler: Callable[[Any, LambdaContext], Any], seconds: int, event: Any) -> Any:
    return handler(event, LambdaContext.of(seconds))


def _invoke_async(function: Invoke, event: Any) -> None:
    """Invoke a function as Lambda does for asynchronous events: up to three times."""
    for attempt in range(3):
        try:
            function(event)
        except Exception:
            if attempt == 2:
                sys.excepthook(*sys.exc_info())
        else:
            return


class StepFunctions:
    """One state machine, with the methods of botocore's client."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        functions: Mapping[str, Invoke],
        ended: Callable[[dict[str, Any]], object],
        *,
        at_once: int = 1,
        background: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        folder: Path | None = None,
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
        self._folder = folder
        self._keeping = threading.Lock()
        for file in folder.glob("*.json") if folder else ():
            kept = json.loads(file.read_text(encoding="utf-8"))
            run = MapRun(**kept["run"]) if kept["run"] else None
            self._executions[kept["arn"]] = Execution(**{**kept, "run": run})

    # -- the API ---------------------------------------------------------------------------------------------

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:
        """Start an execution, only once for each name."""
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        if arn not in self._executions:
            execution = Execution(arn, name, self._definition["StartAt"], json.loads(input))
            self._executions[arn] = execution
            self._begin(execution)
        return {"executionArn": arn, "startDate": time.time()}

    def stop_execution(self, *, executionArn: str, cause: str = "") -> dict[str, Any]:
        """Stop an execution: no more of its children are started."""
        execution = self._find(executionArn)
        if execution.status == "RUNNING":
            self._abort(execution)
        return {"stopDate": time.time()}

    def redrive_execution(self, *, executionArn: str, clientToken: str = "") -> dict[str, Any]:
        """Continue an execution where it failed or was stopped, only once for each ``clientToken``."""
        execution = self._find(executionArn)
        if clientToken and clientToken == execution.token:
            return {"redriveDate": time.time()}
        if execution.status not in ("FAILED", "ABORTED"):
            raise _error("ExecutionNotRedrivable", f"it is {execution.status}", "RedriveExecution")
        # Threads that still run the old execution find that it was stopped.
        execution = replace(execution, status="RUNNING", redrives=execution.redrives + 1, token=clientToken)
        self._executions[executionArn] = execution
        self._begin(execution)
        return {"redriveDate": time.time()}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:
        """Return an execution's status, and how often it was redriven."""
        execution = self._find(executionArn)
        return {"executionArn": executionArn, "status": execution.status, "redriveCount": execution.redrives}

    def list_map_runs(self, *, executionArn: str) -> dict[str, Any]:
        """Return the map run of an execution, if it has one."""
        run = self._find(executionArn).run
        return {"mapRuns": [{"executionArn": executionArn, "mapRunArn": run.arn}] if run else []}

    def describe_map_run(self, *, mapRunArn: str) -> dict[str, Any]:
        """Return the progress of a map run."""
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

    def end_interrupted(self, table: str) -> None:
        """Stop what an earlier run was executing, and report the end of batches that have none in ``table``.

        They may have no execution here, as the earlier run was killed before it began, or kept none. Their
        execution may even have succeeded, if the table has lost the last second of that run.
        """
        for execution in self._executions.values():
            if execution.status == "RUNNING":
                self._abort(execution)
        pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table)
        for item in (item for page in pages for item in page["Items"]):
            kind, _, name = item["pk"]["S"].partition("#")
            is_unannounced = item.get("is_unannounced") == {"BOOL": True}
            if kind != "BATCH" or ("NULL" not in item["finished"] and not is_unannounced):
                continue
            arn = f"{_EXECUTIONS}:{name}"
            execution = self._executions.get(arn) or Execution(
                arn, name, state="", data=None, status="ABORTED", redrives=int(item["redrives"]["N"])
            )
            if execution.status == "SUCCEEDED":
                self._abort(execution)
            self._tell(execution)

    def _abort(self, execution: Execution) -> None:
        execution.status = "ABORTED"
        self._keep(execution)

    def _tell(self, execution: Execution) -> None:
        if execution.status in ("FAILED", "ABORTED"):
            detail = {"name": execution.name, "status": execution.status, "redriveCount": execution.redrives}
            self._ended({"source": "aws.states", "detail": {"executionArn": execution.arn, **detail}})

    def _keep(self, execution: Execution) -> None:
        """Write an execution into the folder, whole or not at all."""
        with self._keeping:
            if self._folder and self._executions[execution.arn] is execution:
                run = execution.run and {"arn": execution.run.arn, "objects": execution.run.objects}
                file = self._folder / f"{execution.name}.json"
                new = file.with_suffix(".new")
                new.write_text(json.dumps({**asdict(replace(execution, run=None)), "run": run}), "utf-8")
                new.replace(file)

    # -- an execution ----------------------------------------------------------------------------------------

    def _begin(self, execution: Execution) -> None:
        self._keep(execution)
        if self._background:
            threading.Thread(target=self._run, args=(execution,), name=execution.name, daemon=True).start()
        else:
            self._waiting.append(execution)

    def drain(self) -> None:
        """Run to its end every execution that has been started or redriven."""
        while self._waiting:
            self._run(self._waiting.popleft())

    def _run(self, execution: Execution) -> None:
        try:
            self._walk(execution)
        except Stopped:
            pass
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failed:  # also of a parser that panics on an invalid file
            execution.status = "FAILED"
            print(f"batch {execution.name} has failed: {failed}", file=sys.stderr, flush=True)
        self._keep(execution)
        self._tell(execution)

    def _walk(self, execution: Execution) -> None:
        """Run an execution from its current state to its end.

        Raises ``Stopped`` if it was stopped, and whatever a state fails with.
        """
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
                met = (
                    rule["Next"] for rule in state["Choices"] if evaluate(rule["Condition"], states) is True
                )
                execution.state = next(met, state["Default"])
                continue
            if state["Type"] == "Succeed":
                execution.status = "SUCCEEDED"
                return
            run = self._task if state["Type"] == "Task" else self._map
            output = run(execution, state, states)
            if execution.status != "RUNNING":  # stopped while its last state ran
                raise Stopped
            if state.get("End"):
                execution.status = "SUCCEEDED"
                return
            execution.state, execution.data = state["Next"], output
            self._keep(execution)

    def _task(self, execution: Execution, state: Mapping[str, Any], states: dict[str, Any]) -> Any:
        """Invoke a function, with the retries of the state."""
        (retry,) = state["Retry"]
        tried = states["context"]["State"]
        while True:
            try:
                arguments = evaluate(state["Arguments"], states)
                answer = self._functions[arguments["FunctionName"]](transferred(arguments["Payload"]))
                return evaluate(state["Output"], {**states, "result": {"Payload": transferred(answer)}})
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
            objects = objects_of(self._s3, state["ItemReader"], states)
            execution.run = MapRun(f"{machine}/{state['Label']}:{uuid.uuid4()}", objects)
            self._keep(execution)
        run = execution.run
        items = rows_of(self._s3, state["ItemReader"], states) if run.objects is None else run.objects
        counts = run.counts = dict.fromkeys(_COUNTS, 0)
        child = partial(self._child, execution, state)
        at_once = min(self._at_once, evaluate(state["MaxConcurrency"], states))

        def waiting() -> Iterator[tuple[int, Any]]:
            for number, data in enumerate(batches(items, state, states)):
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
            fetched_ahead(child, waiting(), at_once) as children,
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
            manifest = write_manifest(self._s3, run.arn, writer, failures)
        if counts["failed"] * 100 > state["ToleratedFailurePercentage"] * counts["total"]:
            raise StateFailed("States.ExceedToleratedFailureThreshold", f"{counts['failed']} rows")
        details = {"Bucket": writer["Bucket"], "Key": manifest}
        return {"MapRunArn": run.arn, "ResultWriterDetails": details}

    def _child(self, execution: Execution, state: Mapping[str, Any], numbered: tuple[int, Any]) -> Any:
        processor = state["ItemProcessor"]
        states = {"input": numbered[1], "context": {"State": {"RetryCount": 0}}}
        return self._task(execution, processor["States"][processor["StartAt"]], states)


def _error(code: str, message: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)
