"""Imports point one way, by the contracts in pyproject.toml, and the map shows what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_point_one_way_and_in_no_circle() -> None:
    # In a process of its own: it configures logging, and that disables every logger there is.
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache", str(ROOT / "pyproject.toml")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_map_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[`\s]([\w/]+\.(?:py|toml|yaml|md))[`\s,]", text))
    assert len(named) > 20
    folders = ("docs", "functions", "layers", "local", "tests/unit", "training")
    known = [f"/{path.name}" for path in ROOT.iterdir()]
    known += [path.as_posix() for folder in folders for path in (ROOT / folder).rglob("*")]
    lost = {name for name in named if not any(path.endswith(f"/{name}") for path in known)}
    assert not lost


def test_the_map_names_what_its_files_hold() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"((?:`\w+`(?: and |, )?)+) (?:in|of) `([\w/]+\.py)`", text)
    assert len(named) > 8
    modules = [path for folder in ("layers", "training") for path in (ROOT / folder).rglob("*.py")]
    for names, file in named:
        (module,) = (path for path in modules if path.as_posix().endswith(f"/{file}"))
        code = module.read_text(encoding="utf-8")
        for name in re.findall(r"\w+", names.replace(" and ", " ")):
            assert re.search(rf"^\s*(?:class |def )?{name}\b(?:\(|:| =)", code, re.MULTILINE), (name, file)


def test_the_map_shows_the_layers_as_they_are() -> None:
    shown = " ".join((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            assert " → ".join(contract["layers"]) in shown, contract["name"]
