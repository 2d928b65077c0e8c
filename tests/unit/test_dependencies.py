"""What ships is what is tested, every license of it is known, and known vulnerabilities are found."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

import audit
import licenses

ROOT = Path(__file__).resolve().parents[2]


def pins(name: str) -> dict[str, str]:
    """The pins of a lock file by package and marker, each with its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        if not entry.strip():
            continue
        requirement, *hashes = entry.replace("\\\n", "\n").split("\n")
        package, _, marker = requirement.partition(";")
        name_only, _, version = package.strip().partition("==")
        name_only = name_only.partition("[")[0]
        numbered = f"{name_only};{marker.strip()}"
        found[numbered] = " ".join([version, *sorted(line.strip() for line in hashes if line.strip())])
    return found


@pytest.mark.parametrize(("shipped", "least"), [("recognition", 10), ("account", 10), ("batches", 2)])
def test_shipped_versions_are_the_tested_ones(shipped: str, least: int) -> None:
    """Each pin of images, layer and function is the tests' own: the same version, marker and hashes."""
    tested, ships = pins("dev"), pins(shipped)
    assert len(ships) >= least
    named = {package.partition(";")[0]: pin for package, pin in tested.items() if package.endswith(";")}
    others = {package: pin for package, pin in ships.items() if tested.get(package) != pin}
    assert {
        package for package, pin in others.items() if named.get(package.partition(";")[0]) != pin
    } == set()


def test_every_pin_has_a_hash() -> None:
    for name in ("dev", "recognition", "account", "batches", "sam", "audit"):
        assert [package for package, pin in pins(name).items() if "--hash=sha256:" not in pin] == []


def test_the_licenses_of_what_ships_are_listed() -> None:
    """Fails for a dependency whose license, or whose bundled library, nobody has looked up."""
    written = (ROOT / "docs" / "licenses.md").read_text(encoding="utf-8")
    assert written == licenses.document(), "run python packaging/licenses.py"


def test_an_unknown_license_or_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"License-Expression": "GPL-3.0-only", "License": None}
    monkeypatch.setattr(metadata, "metadata", lambda package: about)
    with pytest.raises(LookupError):
        licenses.license_of("six")
    monkeypatch.setattr(metadata, "files", lambda package: [Path("six.libs/libnew.so.1")])
    with pytest.raises(LookupError):
        licenses.libraries_of("six")


# -- advisories ----------------------------------------------------------------------------------------------


def audited(tmp_path: Path, python: str, pages: str = '{"vulnerabilities": {}}', ignored: str = "") -> int:
    """``audit`` of one pinned package, with programs that say ``python`` and ``pages`` and exit with 1."""
    (tmp_path / "packaging" / "npm").mkdir(parents=True)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "packaging" / "advisories.toml").write_text(ignored, encoding="utf-8")
    for name in audit.LOCKS:
        (tmp_path / "requirements" / f"{name}.txt").write_text("six==1.17.0 \\\n", encoding="utf-8")
    for name, output in (("pip-audit", python), ("npm", pages)):
        stream = ">&2" if output.startswith("error") else ""
        script = f"#!/bin/sh\ncat <<'END' {stream}\n{output}\nEND\nexit 1\n"
        (tmp_path / name).write_text(script, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    return audit.main([str(tmp_path / "pip-audit")], tmp_path, str(tmp_path / "npm"))


def dependencies(**about: object) -> str:
    return json.dumps({"dependencies": [{"name": "six", "version": "1.17.0", **about}]})


VULNERABLE = dependencies(vulns=[{"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.18.0"]}])
PAGES = json.dumps(
    {
        "vulnerabilities": {
            "swagger-ui-dist": {"via": [{"url": "https://x/GHSA-1", "range": "<6", "title": "XSS"}, "other"]}
        }
    }
)


def ignoring(until: str) -> str:
    return f'[[ignored]]\nid = "CVE-2026-1"\npackage = "six"\nreason = "not called"\nuntil = {until}\n'


def test_a_known_vulnerability_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(tmp_path, VULNERABLE) == 1
    assert "six 1.17.0: PYSEC-1, CVE-2026-1: fixed in 1.18.0" in capsys.readouterr().out


def test_a_vulnerability_of_the_pages_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(tmp_path, dependencies(vulns=[]), PAGES) == 1
    assert "swagger-ui-dist <6: GHSA-1: XSS" in capsys.readouterr().out


@pytest.mark.parametrize(("until", "code"), [("2999-01-01", 0), ("2026-01-01", 1)])
def test_an_accepted_advisory_is_ignored_until_its_date(tmp_path: Path, until: str, code: int) -> None:
    assert audited(tmp_path, VULNERABLE, ignored=ignoring(until)) == code


def test_an_entry_without_a_reason_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        audited(tmp_path, VULNERABLE, ignored='[[ignored]]\nid = "CVE-2026-1"\n')


@pytest.mark.parametrize(
    "output",
    ["error: Max retries exceeded with url", "error: 503 Service Unavailable", dependencies(skip_reason="?")],
)
def test_without_advisories_it_says_so_and_passes(
    tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audited(tmp_path, output, "error audit 405 Method Not Allowed") == 0
    assert capsys.readouterr().out.count("not audited, as no advisories can be reached") == 2


def test_any_other_failure_fails_the_audit(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        audited(tmp_path, "error: invalid requirements")


def test_the_shipped_pages_are_the_audited_ones() -> None:
    lock = json.loads((ROOT / "packaging" / "npm" / "package-lock.json").read_text(encoding="utf-8"))
    audited_version = lock["packages"]["node_modules/swagger-ui-dist"]["version"]
    assert f"Swagger UI {audited_version}" in (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert f"Swagger UI {audited_version}" in licenses.document()
