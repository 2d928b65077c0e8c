"""``make doctor``: check what Carsight needs on this machine, and print what is missing.

It runs before anything is installed, so it uses only the standard library. The exit status is 1 if something
is missing that the README's commands need.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_SAM = (1, 160)


@dataclass(frozen=True)
class Check:
    """One thing that is needed. ``remedy`` is empty if nothing is wrong."""

    what: str
    found: str
    remedy: str = ""


def output(*command: str) -> str | None:
    """Return the output of ``command``, or None if it is missing, fails or hangs."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


def tool(name: str, package: str) -> Check:
    """Check for a command that ``make run`` or ``make test`` calls."""
    if shutil.which(name) is None:
        return Check(name, "not found", f"apt-get install {package}")
    return Check(name, output(name, "--version") or "found")


def here() -> Iterator[Check]:
    """Check what ``make run`` and ``make test`` need."""
    version = ".".join(map(str, sys.version_info[:3]))
    remedy = (
        "" if sys.version_info >= (3, 11) else "Python 3.11 or newer; `make PYTHON=/path/to/python3.11 run`"
    )
    yield Check("Python", version, remedy)
    complete = output(sys.executable, "-c", "import venv, ensurepip; print('with venv and pip')")
    yield Check("venv", complete or "not complete", "" if complete else "apt-get install python3-venv")
    yield tool("make", "make")
    yield tool("npm", "npm (`make test` runs CarsXE's own npm client)")
    if shutil.which("chromium") is None:
        yield Check("chromium", "not found: the tests of the pages are skipped")


def deploying() -> Iterator[Check]:
    """Check what ``sam build`` and ``sam deploy`` need."""
    sam = output("sam", "--version")
    found = re.search(r"(\d+)\.(\d+)", sam or "")
    if found is None:
        yield Check(
            "AWS SAM CLI", "not found", "pip install aws-sam-cli, in a virtual environment of its own"
        )
    else:
        old = (int(found[1]), int(found[2])) < MIN_SAM
        wanted = ".".join(map(str, MIN_SAM))
        yield Check(
            "AWS SAM CLI", found.string, f"pip install --upgrade 'aws-sam-cli>={wanted}'" if old else ""
        )
    server = output("docker", "info", "--format", "{{.ServerVersion}}, {{.Architecture}}")
    if not server:
        reason = "not found" if shutil.which("docker") is None else "its daemon does not answer"
        yield Check(
            "Docker", reason, "install Docker and add yourself to the group `docker`, or start its daemon"
        )
    else:
        yield Check("Docker", server)
    yield _credentials()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _configured_region()
    yield Check("AWS region", region or "none", "" if region else "export AWS_REGION=us-east-1, say")


def _credentials() -> Check:
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return Check("AWS credentials", "in the environment")
    files = [Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")), Path("~/.aws/config")]
    if any(file.expanduser().is_file() for file in files):
        return Check("AWS credentials", f"profile {os.environ.get('AWS_PROFILE', 'default')}")
    return Check(
        "AWS credentials", "none", "aws configure, or export AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret"
    )


def _configured_region() -> str | None:
    try:
        config = Path("~/.aws/config").expanduser().read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^region\s*=\s*(\S+)", config, re.MULTILINE)
    return found[1] if found else None


def main() -> int:
    """Print both lists; return 0 if nothing is missing, otherwise 1."""
    missing: dict[str, list[Check]] = {}
    for title, checks in (("To run and test here", here()), ("To deploy", deploying())):
        print(f"{title}:")
        missing[title] = []
        for check in checks:
            first, *_ = check.found.splitlines()
            print(f"  {'MISSING' if check.remedy else 'ok':8}{check.what}: {first}")
            if check.remedy:
                print(f"          -> {check.remedy}")
                missing[title].append(check)
        print()
    for title, lacking in missing.items():
        print(f"{title}: {f'{len(lacking)} missing, see above' if lacking else 'nothing is missing'}.")
    return 1 if any(missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
