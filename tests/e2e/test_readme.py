"""The README's client snippets, as pasted: only the address, the key and the photo are others."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Running

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests" / "clients" / "node_modules"
PHOTO = ROOT / "tests" / "data" / "plate_us.jpg"


def snippet(language: str, holding: str, gateway: Running, key: str, image: str) -> str:
    """The README's block of code that holds a word, pointed at ``gateway``."""
    blocks: list[str] = re.findall(
        rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
    (block,) = (block for block in blocks if holding in block)
    assert all(text in block for text in ("https://…", "YOUR_KEY", "https://photos.example/car.jpg"))
    return (
        block.replace("https://…", gateway.url)
        .replace("YOUR_KEY", key)
        .replace("https://photos.example/car.jpg", image)
    )


def printed(*command: str | Path, folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip()


CASES = [
    ("demo", base64.b64encode(PHOTO.read_bytes()).decode(), "7kmr204"),
    ("nobody", "aGVsbG8=", "User with this API key was not found or the API key is disabled"),
]


@pytest.mark.parametrize(("key", "image", "answer"), CASES)
def test_the_python_snippet_prints_the_reading_or_the_error(
    gateway: Running, tmp_path: Path, key: str, image: str, answer: str
) -> None:
    script = tmp_path / "call.py"
    script.write_text(snippet("python", "carsxe_api", gateway, key, image), encoding="utf-8")
    assert printed(sys.executable, script, folder=tmp_path) == answer


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
@pytest.mark.parametrize(("key", "image", "answer"), CASES)
def test_the_typescript_snippet_prints_the_reading_or_the_error(
    gateway: Running, tmp_path: Path, key: str, image: str, answer: str
) -> None:
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (tmp_path / "call.ts").write_text(snippet("ts", "carsxe-api", gateway, key, image), encoding="utf-8")
    strict = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "--types", "node")
    printed(MODULES / ".bin" / "tsc", *strict, "call.ts", folder=tmp_path)
    assert printed("node", "call.js", folder=tmp_path) == answer
