"""What the product calls of a package, by its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def called(package: str) -> Iterator[str]:
    """Yield the name of each call of ``package``, as the layers and functions spell it: ``linalg.inv``."""
    for folder in ("layers", "functions"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    first, _, name = ast.unparse(node.func).partition(".")
                    if first == package and name.replace(".", "").isidentifier():
                        yield name
