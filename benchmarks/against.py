"""This working tree beside another revision: CPU time and memory of both builds, and their ratios.

    python -m benchmarks.against REVISION [--turns 21] [--vins DIR] [--plates DIR] [--peer] [--packages DIR]
    python -m benchmarks.against REVISION --rows plate,cold --turns 7

REVISION is checked out into a temporary worktree and runs with the packages of this environment; it has to
have ``benchmarks.calls`` (21 November 2026 or later). Each build answers whole requests, from API Gateway's
event to the JSON, in a process of its own on one processor, its key counted by a real request to an embedded
table. The builds take turns, and who begins changes from turn to turn: what else the machine does meets both
alike. Figures are medians in CPU-milliseconds, and the ratio is what to look at.

``--vins`` and ``--plates`` name folders of labeled photos (``labels.jsonl``), of which those of ``--split``
are read, ``--photos`` of them at most, evenly chosen. Without ``--vins``, VINs are drawn by
``training.render_vins``. ``--peer`` adds RapidOCR (``pip install rapidocr``), told to use one thread.
``--packages DIR`` starts both builds cold with the packages of an image instead of this environment's.
"""

import sys
import time

_START = time.process_time()  # what the interpreter itself took; a cold start begins before it

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
SAMPLES = {"plate": "plate_us.jpg", "vin": "vin_label.jpg"}
EMPTY = {"plate": "no_plate.jpg", "vin": "label_without_vin.jpg"}
ROWS = ("plate", "vin", "empty", "cold", "memory")
MEGAPIXELS = (40, 50)
"""Of the PNGs whose peak memory is measured."""
Server = Callable[[Path], tuple[float, int]]
"""From a photo's path to its CPU-milliseconds and the status of the answer."""

_ANSWERS: TextIO = sys.stdout
"""Where a child process answers, once what the function logs goes elsewhere."""


# -- in a process of one build -------------------------------------------------------------------------------


def _handler(api: str) -> Any:
    return importlib.import_module(f"functions.{api}.app").lambda_handler


def _serve(api: str) -> None:
    """Answer the photo that each line of standard input names: a line of CPU-milliseconds and the status."""
    from benchmarks.calls import Invocation, event

    handle = _handler(api)
    for line in sys.stdin:
        asked = event(api, Path(line.strip()).read_bytes())
        start = time.process_time()
        answer = handle(asked, Invocation())
        _say((time.process_time() - start) * 1000, answer["statusCode"])


def _peer() -> None:
    """Do the same with RapidOCR, which is given the photo's bytes."""
    from benchmarks.warm import rapidocr

    read = rapidocr()
    for line in sys.stdin:
        _say(read(Path(line.strip()).read_bytes())["total"], 200)


def _cold(api: str, photo: Path) -> None:
    """Say what this process has taken from its start to its first answer, but for making the event."""
    before = time.process_time()
    from benchmarks.calls import Invocation, event

    asked = event(api, photo.read_bytes())
    made = time.process_time() - before
    answer = _handler(api)(asked, Invocation())
    # What this file has imported for itself is not the function's.
    _say((time.process_time() - made - (before - _START)) * 1000, answer["statusCode"])


def _memory(api: str, photo: Path) -> None:
    """Say how many megabytes this process has held at most, once it has answered."""
    from benchmarks.calls import Invocation, event

    answer = _handler(api)(event(api, photo.read_bytes()), Invocation())
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    )
    _say(int(status["VmHWM"].split()[0]) / 1024, answer["statusCode"])


def _keys() -> None:
    """Keep a table with a key until standard input ends; say by which environment it is found."""
    from benchmarks.calls import key_table

    # Older builds' stores want packages that are no longer installed: both builds' tables stand in ours.
    for name in ("server", "stores"):
        file = Path(__file__).parents[1] / "local" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"local.{name}", file)
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    before = dict(os.environ)
    with key_table():
        _say({name: value for name, value in os.environ.items() if before.get(name) != value}, 0)
        sys.stdin.read()


def _say(value: object, status: int) -> None:
    _ANSWERS.write(json.dumps([value, status]) + "\n")
    _ANSWERS.flush()


def _child(task: str, api: str = "", photo: str = "") -> None:
    """Do one task with the modules of the build that ``PYTHONPATH`` names, on one processor."""
    global _ANSWERS
    sys.path.pop(0)  # this file's folder, which is another build's
    # Whatever the function logs goes nowhere.
    _ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if task == "keys":
        _keys()
    elif task == "peer":
        _peer()
    elif task == "serve":
        _serve(api)
    else:
        {"cold": _cold, "memory": _memory}[task](api, Path(photo))


# -- between builds ------------------------------------------------------------------------------------------


class Build:
    """One build: a folder of its sources, a table with a key, and processes that answer with it."""

    def __init__(self, name: str, root: Path, compiled: Path, packages: Path | None = None) -> None:
        self.name = name
        self._root = root
        layers = root / "layers"
        self._path = [root, layers / "recognition" / "python", layers / "service" / "python"]
        self._packages = packages
        self._environment = {
            **os.environ,
            "PYTHONPYCACHEPREFIX": str(compiled / name),
            "PYDANTIC_DISABLE_PLUGINS": "__all__",
        }
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._running: list[subprocess.Popen[str]] = []
        self._environment |= self._ask(self._start("keys"))[0]

    def _start(self, task: str, *arguments: str, packages: Path | None = None) -> subprocess.Popen[str]:
        path = [*self._path, packages] if packages else self._path
        process = subprocess.Popen(
            [sys.executable, *(["-S"] if packages else []), str(Path(__file__)), "--child", task, *arguments],
            cwd=self._root,
            env=self._environment | {"PYTHONPATH": os.pathsep.join(map(str, path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def _ask(self, process: subprocess.Popen[str], line: str = "") -> tuple[Any, int]:
        """Return what ``process`` says to ``line``."""
        assert process.stdin is not None and process.stdout is not None
        if line:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name}: no answer; its message is above")
        value, status = json.loads(answer)
        return value, status

    @contextlib.contextmanager
    def _stopped(self, process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
        try:
            yield process
        finally:
            self._stop(process)

    def _stop(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()
        self._running.remove(process)

    def once(self, task: str, api: str, photo: Path) -> tuple[float, int]:
        """Start a process for ``task``, ``cold`` or ``memory``, and return its figure and its status."""
        packages = self._packages if task == "cold" else None
        with self._stopped(self._start(task, api, str(photo), packages=packages)) as process:
            return self._ask(process)

    @contextlib.contextmanager
    def serving(self, task: str, api: str) -> Iterator[Server]:
        """Start a process that answers photo after photo."""
        with self._stopped(self._start(task, api)) as process:
            yield lambda photo: self._ask(process, str(photo))

    def close(self) -> None:
        """Stop what still runs."""
        for process in list(self._running):
            self._stop(process)


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Check ``revision`` out into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


Timed = list[tuple[float, int]]
"""What each build took, in its order, and the status that it answered with."""


def in_turn(servers: Sequence[Server], photo: Path, turns: int, unmeasured: int = 1) -> Timed:
    """Return the median of ``turns`` requests for each server; they take turns, and so does who begins."""
    taken: list[list[float]] = [[] for _ in servers]
    statuses = [0] * len(servers)
    for turn in range(turns + unmeasured):
        order = range(len(servers)) if turn % 2 else reversed(range(len(servers)))
        for index in order:
            milliseconds, statuses[index] = servers[index](photo)
            if turn >= unmeasured:
                taken[index].append(milliseconds)
    return [(statistics.median(times), status) for times, status in zip(taken, statuses, strict=True)]


class Table:
    """The table that is printed, row by row."""

    def __init__(self, builds: Sequence[Build]) -> None:
        print(f"| | {builds[0].name} | {builds[1].name} | ratio |\n|---|---:|---:|---:|")

    def row(self, what: str, timed: Timed, status: int | None = None) -> None:
        """Print one row; where a build has not answered with ``status``, its own is printed too."""
        cells = []
        for value, answered in timed:
            odd = f" ({answered})" if status is not None and answered != status else ""
            cells.append(f"{value:.1f}{odd}")
        (before, _), (now, _) = timed
        print(f"| {what} | {cells[0]} | {cells[1]} | {now / before:.2f} |", flush=True)


class Comparison:
    """What two builds are compared in; photos that are made for it are written to ``folder``."""

    def __init__(self, builds: Sequence[Build], folder: Path, options: argparse.Namespace) -> None:
        self._builds = builds
        self._folder = folder
        self._options = options
        self._table = Table(builds)

    @contextlib.contextmanager
    def _serving(self, api: str) -> Iterator[list[Server]]:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(build.serving("serve", api)) for build in self._builds]

    def _large(self, api: str) -> Path:
        from benchmarks.warm import large

        return self._written(f"{api}.jpg", large((DATA / SAMPLES[api]).read_bytes()))

    def _written(self, name: str, encoded: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(encoded)
        return path

    def plate(self) -> None:
        """Plates: the sample photo in two sizes, and a folder of photos where one is named."""
        turns = self._options.turns
        with self._serving("plate") as servers:
            sample = DATA / SAMPLES["plate"]
            self._table.row("plate, 1280 x 720", in_turn(servers, sample, turns, 3), 200)
            timed = in_turn(servers, self._large("plate"), turns)
            self._table.row("plate, 4000 x 3000 as base64", timed, 200)
            if self._options.plates:
                self._photos(servers, "plate photos", self._labeled(self._options.plates))
        if self._options.peer:
            self._peer(sample)

    def _peer(self, sample: Path) -> None:
        """RapidOCR on the same photo: its row's ratio is ours to its."""
        now = self._builds[-1]
        with now.serving("serve", "plate") as ours, now.serving("peer", "plate") as peer:
            (mine, _), (its, _) = in_turn([ours, peer], sample, min(7, self._options.turns))
        print(
            f"| plate, 1280 x 720: RapidOCR beside {now.name} | {its:.1f} | {mine:.1f} | {mine / its:.3f} |"
        )

    def vin(self) -> None:
        """VINs: the sample label in two sizes, and photos of labels, plates, papers and dashboards."""
        turns = self._options.turns
        with self._serving("vin") as servers:
            sample = DATA / SAMPLES["vin"]
            self._table.row("VIN label, 1600 x 1200", in_turn(servers, sample, turns, 3), 200)
            self._table.row(
                "VIN label, 4000 x 3000 as base64", in_turn(servers, self._large("vin"), turns), 200
            )
            if self._options.vins:
                self._photos(servers, "VIN photos", self._labeled(self._options.vins))
            else:
                self._photos(servers, "drawn VIN photos", self._drawn())

    def _drawn(self) -> list[Path]:
        import cv2
        import numpy as np

        from training.render_vins import render_photo

        paths = []
        for seed in range(self._options.photos):
            done, jpeg = cv2.imencode(".jpg", render_photo(np.random.default_rng(seed))[0])
            assert done
            paths.append(self._written(f"vin{seed}.jpg", jpeg.tobytes()))
        return paths

    def _labeled(self, folder: Path) -> list[Path]:
        from training.data import read_labels

        paths = [folder / label["image"] for label in read_labels(folder, self._options.split)]
        step = max(1, len(paths) // self._options.photos)
        return paths[::step][: self._options.photos]

    def _photos(self, servers: Sequence[Server], what: str, paths: Sequence[Path]) -> None:
        """Median and mean of many photos, of each of which the median of three requests counts."""
        timed = [in_turn(servers, path, 3, unmeasured=0) for path in paths]
        for name, of in (("median", statistics.median), ("mean", statistics.fmean)):
            each = [(of([photo[build][0] for photo in timed]), 200) for build in range(len(servers))]
            self._table.row(f"{what}, {name} of {len(paths)}", each)

    def empty(self) -> None:
        """Photos that show nothing to be read."""
        for api, what in (("plate", "photo without a plate"), ("vin", "label without a VIN")):
            with self._serving(api) as servers:
                self._table.row(what, in_turn(servers, DATA / EMPTY[api], self._options.turns), 404)

    def cold(self) -> None:
        """From a process's start to its first answer; the first of each build only compiles its modules."""
        for api, sample in SAMPLES.items():
            servers = [
                lambda photo, build=build, api=api: build.once("cold", api, photo) for build in self._builds
            ]
            timed = in_turn(servers, DATA / sample, min(15, self._options.turns))
            self._table.row(f"cold start to first answer, {api}", timed, 200)

    def memory(self) -> None:
        """Measure the most that a process holds while it answers for a large PNG, in MB."""
        for megapixels in MEGAPIXELS:
            for api in SAMPLES:
                photo = self._png(api, megapixels)
                timed = [build.once("memory", api, photo) for build in self._builds]
                self._table.row(f"peak memory, {megapixels}-megapixel PNG, {api} (MB)", timed, 200)

    def _png(self, api: str, megapixels: int) -> Path:
        import cv2

        photo = cv2.imread(str(DATA / SAMPLES[api]))
        assert photo is not None
        # Halved, because a file of more than 10 MB is refused.
        photo = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        zoom = (megapixels * 1e6 / photo.shape[0] / photo.shape[1]) ** 0.5 * 0.999
        enlarged = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        path = self._folder / f"{api}{megapixels}.png"
        cv2.imwrite(str(path), enlarged)
        return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision")
    parser.add_argument("--turns", type=int, default=21, help="requests of each build for one figure")
    parser.add_argument("--rows", default=",".join(ROWS), help="some of " + ",".join(ROWS))
    parser.add_argument("--vins", type=Path, metavar="DIR")
    parser.add_argument("--plates", type=Path, metavar="DIR")
    parser.add_argument("--split", default="val")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--peer", action="store_true", help="measure RapidOCR too")
    parser.add_argument("--packages", type=Path, metavar="DIR")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    packages = options.packages and options.packages.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which leaves no worktree behind
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trees = {options.revision: stack.enter_context(worktree(options.revision)), "now": ROOT}
        builds = []
        for name, tree in trees.items():
            builds.append(Build(name, tree, folder, packages))
            stack.callback(builds[-1].close)
        comparison = Comparison(builds, folder, options)
        for row in rows:
            getattr(comparison, row)()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        main()
