"""DynamoDB's writes as the meters use them, in this process: atomic, quick, and late or lost where wanted.

The embedded stores answer one request at a time, at 10 ms each. Here threads race, thousands of times; a test
compares what becomes of the items with the embedded stores.
"""

from __future__ import annotations

import copy
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from tests.serving import in_background

Item = dict[str, Any]

_TOKENS = re.compile(r"\s*(<>|<=|>=|[=<>(),+-]|AND\b|OR\b|IN\b|[#:]?\w+)")


class Exceptions:
    """What a client has as ``exceptions``."""

    class ConditionalCheckFailedException(ClientError):
        """A condition did not hold."""


class _Expression:
    """One expression over one item, read from left to right."""

    def __init__(self, text: str, item: Item, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self.tokens = _TOKENS.findall(text)
        assert "".join(self.tokens) == re.sub(r"\s", "", text), text
        self.item, self.names, self.values = item, names, values

    def next(self, *wanted: str) -> str:
        token: str = self.tokens.pop(0)
        assert not wanted or token in wanted, (token, wanted)
        return token

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def operand(self, token: str = "") -> Any:
        """The value of a name or a placeholder; None for an attribute that is not there."""
        token = token or self.next()
        if token.startswith(":"):
            return self.values[token]
        return self.item.get(self.names.get(token, token))

    # -- conditions ------------------------------------------------------------------------------------------

    def condition(self) -> bool:
        return any(self.joined("OR", self.all_of))

    def all_of(self) -> bool:
        return all(self.joined("AND", self.one))

    def joined(self, word: str, part: Callable[[], bool]) -> list[bool]:
        """What each ``part`` of those that ``word`` joins comes to; all are read."""
        parts = [part()]
        while self.peek() == word:
            self.next()
            parts.append(part())
        return parts

    def one(self) -> bool:
        token = self.next()
        if token == "(":
            holds = self.condition()
            self.next(")")
            return holds
        if token in ("attribute_exists", "attribute_not_exists"):
            self.next("(")
            found = self.operand() is not None
            self.next(")")
            return found is (token == "attribute_exists")
        left, operator = self.operand(token), self.next()
        if operator == "IN":
            self.next("(")
            members = [self.operand()]
            while self.next(",", ")") == ",":
                members.append(self.operand())
            return left in members
        right = self.operand()
        if operator in ("=", "<>"):
            return (left == right) is (operator == "=")
        if left is None or right is None:
            return False
        a, b = int(left["N"]), int(right["N"])
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator]

    # -- updates ---------------------------------------------------------------------------------------------

    def update(self) -> Item:
        """The item after it: every operand is what it was before."""
        after = dict(self.item)
        verb = ""
        while self.tokens:
            if self.peek() in ("SET", "REMOVE", "ADD"):
                verb = self.next()
            token = self.next()
            name = self.names.get(token, token)
            if verb == "REMOVE":
                after.pop(name, None)
            elif verb == "ADD":
                before = int(self.item.get(name, {"N": "0"})["N"])
                after[name] = {"N": str(before + int(self.operand()["N"]))}
            else:
                self.next("=")
                after[name] = self.sum()
            if self.peek() == ",":
                self.next()
        return after

    def sum(self) -> Any:
        value = self.operand()
        while self.peek() in ("+", "-"):
            sign = 1 if self.next() == "+" else -1
            value = {"N": str(int(value["N"]) + sign * int(self.operand()["N"]))}
        assert value is not None
        return value


class FakeDynamo:
    """A client with the operations of ``Keyring`` and ``MeterStore``; safe to share between threads.

    ``lose`` says by a draw how a write is lost: ``before`` it arrives, its answer ``after`` it has been made,
    or made only ``late``, when ``land`` is called. ``pause`` is the longest that a call takes, in seconds.
    """

    exceptions = Exceptions

    def __init__(self, seed: int = 0, lose: float = 0.0, pause: float = 0.0) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.calls = 0
        self.lose = lose
        self._pause = pause
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._late: list[Callable[[], Any]] = []

    def land(self) -> None:
        """Let the late writes arrive."""
        late, self._late = self._late, []
        for write in late:
            with suppress(ClientError):
                write()

    def get_item(self, **call: Any) -> Any:
        self._wait()
        with self._lock:
            self.calls += 1
            item = self.items.get(_key(call["Key"]))
            return {"Item": copy.deepcopy(item)} if item else {}

    def query(self, **call: Any) -> Any:
        partition = call["ExpressionAttributeValues"][":pk"]["S"]
        with self._lock:
            found = [item for (pk, _), item in self.items.items() if pk == partition]
            return {"Items": copy.deepcopy(found)}

    def transact_write_items(self, **call: Any) -> None:
        with self._lock:
            for action in call["TransactItems"]:
                item = action["Put"]["Item"]
                self.items[_key(item)] = copy.deepcopy(item)

    def update_item(self, **call: Any) -> Any:
        self._wait()
        with self._lock:
            self.calls += 1
            fate = ""
            if self._random.random() < self.lose:
                fate = self._random.choice(("before", "after", "late"))
        if fate == "late":
            self._late.append(lambda: self._update(**call))
        if fate == "after":
            with suppress(ClientError):
                self._update(**call)
        if fate:
            raise ReadTimeoutError(endpoint_url="https://dynamodb")
        return self._update(**call)

    def _update(self, **call: Any) -> Any:
        names, values = call["ExpressionAttributeNames"], call.get("ExpressionAttributeValues", {})
        key, condition = _key(call["Key"]), call.get("ConditionExpression")
        with self._lock:
            before = self.items.get(key)
            if condition and not _Expression(condition, before or {}, names, values).condition():
                answer: Any = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}
                if before:
                    answer["Item"] = copy.deepcopy(before)
                raise Exceptions.ConditionalCheckFailedException(answer, "UpdateItem")
            start = before if before is not None else dict(call["Key"])
            after = _Expression(call["UpdateExpression"], start, names, values).update()
            self.items[key] = after
            shown = {"ALL_NEW": after, "ALL_OLD": before}.get(call.get("ReturnValues", "NONE"))
            return {"Attributes": copy.deepcopy(shown)} if shown else {}

    def _wait(self) -> None:
        if self._pause:
            time.sleep(self._random.uniform(0, self._pause))


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


class _Handler(BaseHTTPRequestHandler):
    """DynamoDB's protocol over a ``FakeDynamo``, for clients in other processes."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one packet: a second would wait 40 ms for the first one's receipt
    store: FakeDynamo

    def do_POST(self) -> None:
        operation = self.headers["x-amz-target"].partition(".")[2]
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = 200
        answer: dict[str, Any]
        try:
            answer = getattr(self.store, re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower())(**call) or {}
        except ClientError as error:
            status, code = 400, error.response["Error"]["Code"]
            answer = {"__type": code, "message": code}
            answer |= {name: seen for name, seen in error.response.items() if name == "Item"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """A server whose clients may die."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serve(store: FakeDynamo) -> Iterator[str]:
    """Serve ``store`` from this process until the block is left; yield its address."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    with in_background(server):
        yield f"http://127.0.0.1:{server.server_port}"
