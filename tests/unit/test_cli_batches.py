"""``carsight batch`` against a service that says what a test wants."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from carsight_service.cli import main
from carsight_service.cli.batches import INLINE_ROWS
from tests.serving import in_background

ID = "0123456789abcdef" * 2


class Scripted(ThreadingHTTPServer):
    """Answers each route with what lies next under it; the last answer stays. ``asked`` is what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, bytes]] = []
        self.keys: list[str | None] = []
        """Idempotency keys of what came."""
        self.types: list[str | None] = []
        """Content types of what came."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def tell(self, route: str, *states: Any, status: int = 200) -> None:
        """Answer ``route`` (``GET /path``) with each of ``states``."""
        self.answers[route] = [(status, state) for state in states]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        assert isinstance(self.server, Scripted)
        self.server.asked.append((self.command, self.path, body))
        self.server.keys.append(self.headers["idempotency-key"])
        self.server.types.append(self.headers["content-type"])
        left = self.server.answers[f"{self.command} {self.path.partition('?')[0]}"]
        status, said = left.pop(0) if len(left) > 1 else left[0]
        if not status:
            self.close_connection = True
            return
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """The service that ``--local`` finds."""
    server = Scripted()
    (tmp_path / ".local").mkdir()
    aws = {"AWS_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    endpoint = {"url": server.url, "key": "demo", "AWS_DEFAULT_REGION": "us-east-1", **aws}
    (tmp_path / ".local" / "endpoint.json").write_text(
        json.dumps({**endpoint, "AWS_ENDPOINT_URL": server.url})
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with in_background(server):
        yield server


def state(state: str = "running", **changed: Any) -> dict[str, Any]:
    """How a batch stands."""
    counts = {"rows": 4, "done": 0, "read": 0, "failed": 0, "pending": None, "running": None}
    return {"id": ID, "api": "plate", "state": state, **counts, "results": None, "detail": None, **changed}


def ended(service: Scripted, how: str = "finished", **changed: Any) -> dict[str, Any]:
    """How a batch stands that has ended, with results to be fetched."""
    results = {
        kind: f"{service.url}/results/{kind}?signed" for kind in ("jsonl", "csv", "parquet", "manifest")
    }
    for kind in results:
        service.tell(f"GET /results/{kind}", f"the {kind}".encode())
    return state(how, **{"done": 4, "read": 3, "failed": 1, "results": results, **changed})


def run(*arguments: str) -> int:
    return main(["batch", *arguments, "--local"])


def test_results_go_into_a_folder_that_is_made_before_anything_is_sent(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", ended(service))
    assert run("results", ID, "--output", "new/folder") == 0
    assert (tmp_path / "new" / "folder" / f"batch-{ID}.csv").read_bytes() == b"the csv"
    service.asked.clear()
    (tmp_path / "file").touch()
    assert run("create", "s3://bucket/list.csv", "--api", "vin", "--output", "file/folder") == 1
    assert "file/folder: Not a directory" in capsys.readouterr().err
    assert service.asked == []


@pytest.mark.parametrize("source", ["list.csv", "s3://bucket/list.csv"])
@pytest.mark.parametrize("lost", [b"", None])
def test_a_list_whose_answer_is_lost_is_sent_again_under_the_same_key(
    service: Scripted, tmp_path: Path, source: str, lost: bytes | None
) -> None:
    """The connection ends without an answer, or a gateway gives up: the batch may have begun."""
    (tmp_path / "list.csv").write_bytes(b"image_url\nhttps://photos.example/1.jpg\n")
    first: Any = (0, lost) if lost is not None else (504, {"message": "Endpoint request timed out"})
    service.answers["POST /v1/batches"] = [first, (200, state())]
    assert run("create", source, "--detach") == 0
    assert run("create", source, "--detach") == 0
    assert len(service.asked) == 3
    assert service.asked[0] == service.asked[1]
    again, once, other = service.keys
    assert again == once != other


def test_a_list_is_sent_watched_and_fetched(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell("POST /v1/batches", state(rows=None))
    service.tell(f"GET /v1/batches/{ID}", state(done=1), state(done=3), ended(service))
    (tmp_path / "list.csv").write_bytes(b"image_url\nhttps://photos.example/1.jpg\n")
    assert run("create", "list.csv", "--api", "vin", "--regions", "us-ca,de") == 0
    method, path, body = service.asked[0]
    assert (method, path) == ("POST", "/v1/batches?api=vin&regions=us-ca,de")
    assert body.startswith(b"image_url\n")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["ID", "STATE", "ROWS", "READ", "FAILED"]
    assert printed[1].split() == [ID, "finished", "4", "3", "1"]
    names = [f"batch-{ID}.{ending}" for ending in ("jsonl", "csv", "parquet", "manifest.json")]
    assert printed[2:] == names
    assert [(tmp_path / name).read_text() for name in names] == [
        "the jsonl",
        "the csv",
        "the parquet",
        "the manifest",
    ]


@pytest.mark.parametrize("address", ["s3://photos/list.parquet", "s3://photos/2026/11/"])
def test_a_list_in_s3_is_named(service: Scripted, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    service.tell("POST /v1/batches", state())
    assert run("create", address, "--detach") == 0
    assert json.loads(service.asked[0][2]) == {"api": "plate", "list": address}
    assert capsys.readouterr().out == f"{ID}\n"


@pytest.mark.parametrize(
    ("name", "form"), [("list.jsonl", "jsonl"), ("list.parquet", "parquet"), ("LIST.CSV.GZ", "csv")]
)
def test_a_long_list_goes_by_way_of_the_bucket(
    service: Scripted, tmp_path: Path, name: str, form: str
) -> None:
    content = b'{"image": "https://photos.example/1.jpg"}\n' * (INLINE_ROWS + 1)
    (tmp_path / name).write_bytes(content)
    offer = {"list": "lists/1", "url": f"{service.url}/bucket", "fields": {"key": "k"}, "max_bytes": 1 << 31}
    service.tell("POST /v1/batches/lists", offer)
    service.tell("POST /bucket", b"", status=204)
    service.tell("POST /v1/batches", state())
    assert run("create", name, "--detach") == 0
    asked, sent, made = (body for _, _, body in service.asked)
    assert json.loads(asked) == {"format": form}
    assert b'name="key"\r\n\r\nk\r\n' in sent
    assert content in sent
    assert sent.index(b'name="key"') < sent.index(b'name="file"')
    assert json.loads(made) == {"api": "plate", "list": "lists/1"}


@pytest.mark.parametrize("size", [0, 11])
def test_a_list_that_the_bucket_would_not_take_is_not_sent(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    (tmp_path / "list.parquet").write_bytes(b"x" * size)
    service.tell("POST /v1/batches/lists", {"list": "l", "url": "http://0/", "fields": {}, "max_bytes": 10})
    assert run("create", "list.parquet") == 1
    assert "must have 1 to 10 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_list_is_sent_as_nothing_that_is_taken_for_utf_8(
    service: Scripted, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes("id;url\nStraße;https://x/a.jpg\n".encode("cp1252"))
    service.tell("POST /v1/batches", state())
    assert run("create", name, "--detach") == 0
    (kind,) = service.types
    assert kind in ("application/csv", "application/jsonl")


def test_a_batch_that_fails_says_why_and_leaves_what_was_read(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", ended(service, "failed", detail="Row 81,233 holds no image."))
    assert run("watch", ID, "--output", str(tmp_path)) == 1
    printed = capsys.readouterr()
    assert printed.err == "carsight: Row 81,233 holds no image.\n"
    service.tell(f"GET /v1/batches/{ID}", ended(service, "failed"))
    assert run("status", ID) == 1
    again = f"the batch has failed: `carsight batch redrive {ID}` reads what is missing"
    assert capsys.readouterr().err == f"carsight: {again}\n"
    assert (tmp_path / f"batch-{ID}.csv").read_text() == "the csv"


def test_a_batch_that_finishes_says_what_it_has_left_out(
    service: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", ended(service, detail="A batch reads the first 10,000,000"))
    assert run("watch", ID, "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == "carsight: A batch reads the first 10,000,000\n"
    assert json.loads(printed.out)["detail"] == "A batch reads the first 10,000,000"


def test_a_batch_is_stopped_and_read_to_its_end_later(
    service: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"DELETE /v1/batches/{ID}", state("cancelled", done=2, read=2))
    assert run("stop", ID) == 0
    assert "cancelled" in capsys.readouterr().out
    service.tell(f"GET /v1/batches/{ID}", state("cancelled", done=2, read=2), ended(service, "cancelled"))
    assert run("watch", ID) == 0  # until its results have been joined
    assert f"batch-{ID}.csv" in capsys.readouterr().out
    service.tell(f"POST /v1/batches/{ID}/redrive", state(done=2, read=2))
    service.tell(f"GET /v1/batches/{ID}", ended(service))
    assert run("redrive", ID, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["read"]) == ("finished", 3)
    assert shown["results"]["jsonl"] == f"batch-{ID}.jsonl"


def test_status_tells_of_rows_that_wait_and_that_are_read(
    service: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(
        f"GET /v1/batches/{ID}", state(rows=10_000_000, done=5, read=5, pending=9_999_895, running=100)
    )
    assert run("status", ID) == 0
    head, told = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["PENDING", "RUNNING"]
    assert told.split()[2:] == ["10,000,000", "5", "0", "9,999,895", "100"]


def test_who_watches_at_a_terminal_sees_rows_rate_and_time_left(
    service: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("time.sleep", lambda _: Event().wait(0.12))
    running = [state(rows=400, done=done, read=done - 2, failed=2) for done in (100, 200, 300)]
    service.tell(f"GET /v1/batches/{ID}", *running, ended(service, rows=400, done=400))
    assert run("watch", ID) == 0
    shown = terminal.getvalue()
    assert re.search(r"50%.*200/400 \[00:00<00:0\d, .*row/s, 198 read, 2 failed\]", shown), shown


def test_who_watches_bears_a_service_that_is_busy_for_a_moment(service: Scripted) -> None:
    route = f"GET /v1/batches/{ID}"
    service.tell(route, state(done=1))
    service.answers[route] += [(503, {"message": "busy"}), (429, {}), (200, ended(service))]
    assert run("watch", ID) == 0
    assert [path for _, path, _ in service.asked].count(f"/v1/batches/{ID}") == 4 + 3  # for new addresses


def test_a_list_that_is_refused_for_the_moment_is_sent_again_as_the_same_request(
    service: Scripted, tmp_path: Path
) -> None:
    service.tell("POST /v1/batches", {"message": "busy"}, status=503)
    (tmp_path / "list.json").write_text('["x"]')
    assert run("create", "list.json", "--regions", "us-ca, de&api=vin") == 1
    assert {path for _, path, _ in service.asked} == {"/v1/batches?api=plate&regions=us-ca,+de%26api%3Dvin"}
    assert (len(service.asked), len(set(service.keys))) == (4, 1)


def test_results_of_a_batch_that_runs_are_not_there_yet(
    service: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", state())
    assert run("results", ID) == 1
    assert f"carsight batch watch {ID}" in capsys.readouterr().err


def test_a_batch_that_is_redriven_while_its_results_are_fetched(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", ended(service, "failed"), state())
    assert run("results", ID) == 1
    told = capsys.readouterr().err
    assert told == (
        f"carsight: the batch was redriven while its results were fetched: carsight batch watch {ID}\n"
    )
    assert {one.name for one in tmp_path.iterdir()} == {".local", f"batch-{ID}.jsonl"}


def test_who_stops_watching_is_told_that_it_goes_on(
    service: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", state())

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert run("watch", ID) == 130
    assert f"carsight batch watch {ID}" in capsys.readouterr().err


def test_who_cannot_fetch_results_is_told_how_to_have_them(
    service: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else has said which batch it is."""
    service.tell(f"POST /v1/batches/{ID}/redrive", ended(service))
    service.tell(f"GET /v1/batches/{ID}", ended(service))
    service.tell("GET /results/csv", b"<Code>AccessDenied</Code>", status=403)
    assert run("redrive", ID) == 1
    told = capsys.readouterr().err
    assert f"carsight batch watch {ID}" in told
    assert "answered 403" in told


def test_whoever_watches_outlasts_a_network_that_is_away(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carsight_service.cli.batches._PATIENCE", 6)
    away = [(0, b"")] * 8 + [(503, {"message": "busy"})] * 8  # four polls, each of them tried four times
    service.answers[f"GET /v1/batches/{ID}"] = [(200, state()), *away, (200, state()), (200, ended(service))]
    assert run("watch", ID) == 0
    assert (tmp_path / f"batch-{ID}.csv").is_file()
    service.answers[f"GET /v1/batches/{ID}"] = [(200, state()), (503, {"message": "busy"})]
    service.asked.clear()
    assert run("watch", ID) == 1
    assert len(service.asked) == 1 + 6 * 4
    told = capsys.readouterr().err
    assert f"carsight batch watch {ID}" in told
    assert "answered 503: busy" in told


def test_each_file_is_fetched_from_an_address_that_is_new(service: Scripted, tmp_path: Path) -> None:
    """One may take longer than the others' addresses are good for."""
    service.tell(f"GET /v1/batches/{ID}", ended(service))
    assert run("results", ID) == 0
    paths = [path.partition("?")[0] for _, path, _ in service.asked]
    kinds = ("jsonl", "csv", "parquet", "manifest")
    assert paths == [path for kind in kinds for path in (f"/v1/batches/{ID}", f"/results/{kind}")]


def test_a_results_file_is_whole_or_not_there(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.tell(f"GET /v1/batches/{ID}", ended(service))
    service.tell("GET /results/csv", b"<Code>AccessDenied</Code>", status=403)
    assert run("results", ID) == 1
    assert "answered 403" in capsys.readouterr().err
    assert {one.name for one in tmp_path.iterdir()} == {".local", f"batch-{ID}.jsonl"}


def test_a_refusal_is_told_with_its_detail(
    service: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"success": False, "message": "The request is not valid.", "detail": "Row 17 holds no image."}
    service.tell("POST /v1/batches", refusal, status=400)
    (tmp_path / "list.json").write_text('["x"]')
    assert run("create", "list.json") == 1
    assert capsys.readouterr().err == (
        "carsight: /v1/batches answered 400: The request is not valid. Row 17 holds no image.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "nowhere.csv"), "nowhere.csv: no such file"),
        (("create", "list.xlsx"), "a list must end in .csv, .json, .jsonl or .parquet"),
        (("create", "list.parquet.gz"), "a list must end in .csv, .json, .jsonl or .parquet"),
        (("status", "first"), "'first' is not a batch's id"),
    ],
)
def test_what_is_no_list_and_no_batch(
    service: Scripted,
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("list.xlsx", "list.parquet.gz"):
        (tmp_path / name).write_bytes(b"x")
    try:
        assert run(*arguments) == 1
    except SystemExit as error:
        assert error.code == 2
    assert said in capsys.readouterr().err
    assert service.asked == []
