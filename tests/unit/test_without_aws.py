"""The examples of ``docs/without-aws.md``, as pasted, over a folder of photos of which one is none."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS: list[str] = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "without-aws.md").read_text("utf-8"), re.DOTALL
)


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_the_example_reads_a_folder(engine: str, tmp_path: Path) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed here")
    (example,) = (block for block in BLOCKS if f"import {engine}" in block)
    (tmp_path / "photos").mkdir()
    for name in ("plate_us.jpg", "no_plate.jpg"):
        shutil.copy(ROOT / "tests" / "data" / name, tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.jpg").write_text("no photo")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    path = os.pathsep.join([str(ROOT / "layers" / "recognition" / "python"), *sys.path])
    ran = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [
        line for file in (tmp_path / "readings").iterdir() for line in file.read_text("utf-8").splitlines()
    ]
    rows = {Path(row["photo"]).name: row for row in map(json.loads, lines)}
    assert [plate["text"] for plate in rows["plate_us.jpg"]["plates"]] == ["7kmr204"]
    assert rows["no_plate.jpg"]["plates"] == []
    assert "not a picture" in rows["broken.jpg"]["error"]
    assert len(lines) == 3
