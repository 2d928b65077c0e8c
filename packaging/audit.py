"""Check all locked packages against published advisories.

    python packaging/audit.py PATH/TO/pip-audit

pip-audit looks up Python packages at PyPI, npm those of the pages. A known vulnerability is an error, unless
packaging/advisories.toml says why it does not affect Carsight. If advisories cannot be reached, this is only
reported, as a build must not depend on them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("dev", "sam", "audit")
"""The lock files to check. ``dev`` includes everything that ships."""

SECONDS = 120
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[\w,-]+\])?==([^\s;\\]+)", re.MULTILINE)
_UNREACHABLE = re.compile(
    r"connect|timed? ?out|resolve|http error|max retries|unreachable|proxy|\b[45]\d\d\b", re.IGNORECASE
)


class Unreachable(Exception):
    """Advisories cannot be reached."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An advisory for a locked package."""

    package: str
    version: str
    names: tuple[str, ...]
    """The advisory's id and its aliases."""
    about: str


def main(arguments: Sequence[str], root: Path = ROOT, npm: str = "npm") -> int:
    """Audit everything and print the findings; return 1 if any is not ignored."""
    ignored = read_ignored(root / "packaging" / "advisories.toml", datetime.now(UTC).date())
    failed = False
    for what, findings in (
        ("Python packages", audit_python(arguments[0], root)),
        ("pages", audit_npm(npm, root / "packaging" / "npm")),
    ):
        try:
            found = list(findings)
        except Unreachable as error:
            print(f"{what}: not audited, as no advisories can be reached ({error})")
            continue
        for finding in found:
            reason = next((ignored[name] for name in finding.names if name in ignored), None)
            failed = failed or reason is None
            print(f"{finding.package} {finding.version}: {', '.join(finding.names)}: {finding.about}")
            if reason:
                print(f"    ignored: {reason}")
        print(f"{what}: {len(found)} advisories")
    return int(failed)


def read_ignored(path: Path, today: date) -> dict[str, str]:
    """Return the advisories to ignore today, with reasons. Raises ``KeyError`` for an incomplete entry."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("ignored", [])
    reasons = {entry["id"]: (f"{entry['package']}: {entry['reason']}", entry["until"]) for entry in entries}
    return {name: reason for name, (reason, until) in reasons.items() if today <= until}


def audit_python(pip_audit: str, root: Path) -> Iterator[Finding]:
    """Yield the advisories for every pin of every lock file, for all platforms.

    Raises ``Unreachable``, and ``RuntimeError`` if pip-audit fails for another reason.
    """
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        text = (root / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        for package, version in _PIN.findall(text):
            versions.setdefault(package, set()).add(version)
    audited = False
    for turn in range(max(map(len, versions.values()))):  # pip-audit accepts one version per package
        pins = [f"{package}=={sorted(of)[turn]}" for package, of in versions.items() if len(of) > turn]
        for dependency in _pip_audit(pip_audit, pins):
            audited = audited or "vulns" in dependency
            for advisory in dependency.get("vulns", ()):
                yield Finding(
                    dependency["name"],
                    dependency["version"],
                    (advisory["id"], *advisory.get("aliases", ())),
                    "fixed in " + ", ".join(advisory.get("fix_versions") or ["no version yet"]),
                )
    if not audited:
        # With a mirror that lacks PyPI's JSON, pip-audit skips every package and finds nothing.
        raise Unreachable("the package index knows none of the packages' advisories")


def _pip_audit(pip_audit: str, pins: Sequence[str]) -> list[dict[str, Any]]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(pins))
        file.flush()
        options = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
        code, out, error = _run([pip_audit, *options, "--requirement", file.name])
    try:
        dependencies: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError):
        raise _failure("pip-audit", code, error) from None
    return dependencies


def audit_npm(npm: str, folder: Path) -> Iterator[Finding]:
    """Yield the advisories for the packages in the pages. Raises as ``audit_python`` does."""
    code, out, error = _run([npm, "audit", "--json", "--package-lock-only"], folder)
    try:
        report = json.loads(out)
        found: Mapping[str, Any] = report["vulnerabilities"]
    except (ValueError, KeyError):
        raise _failure("npm audit", code, error or out) from None
    for package, about in found.items():
        for advisory in about["via"]:
            if isinstance(advisory, dict):
                name = advisory["url"].rpartition("/")[2]
                yield Finding(package, advisory["range"], (name,), advisory["title"])


def _run(command: Sequence[str], folder: Path | None = None) -> tuple[int, str, str]:
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {SECONDS} s") from None
    return ran.returncode, ran.stdout, ran.stderr


def _failure(what: str, code: int, output: str) -> Exception:
    line = next((line.strip() for line in output.splitlines() if _UNREACHABLE.search(line)), "")
    return Unreachable(line[:120]) if line else RuntimeError(f"{what} failed ({code}): {output[-2000:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
