"""The commands of docs/deploying.md, as far as they can be run without Docker and AWS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAM = ROOT / ".venv-sam" / "bin" / "sam"
DOCTOR = ROOT / "packaging" / "doctor.py"


def sam(*arguments: str, folder: Path, answers: str, **environment: str) -> str:
    """What `sam` prints in a copy of the template, ``answers`` typed."""
    for name in ("template.yaml", "samconfig.toml"):
        shutil.copy(ROOT / name, folder)
    ran = subprocess.run(
        [SAM, *arguments],
        cwd=folder,
        env={**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", **environment},
        input=answers,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ran.stdout + ran.stderr


@pytest.mark.skipif(not SAM.exists(), reason="the SAM CLI is not installed here (`make lint` installs it)")
def test_a_guided_deployment_accepts_every_default(aws: str, tmp_path: Path) -> None:
    output = sam("deploy", "--guided", folder=tmp_path, answers="\n" * 60, AWS_ENDPOINT_URL=aws)
    assert "Security Constraints Not Satisfied" not in output
    # Past the questions: it makes what it needs for itself, and only then wants Docker.
    assert "Looking for resources needed for deployment" in output


@pytest.mark.skipif(not SAM.exists(), reason="the SAM CLI is not installed here (`make lint` installs it)")
def test_a_build_needs_docker_and_no_particular_python(tmp_path: Path) -> None:
    output = sam("build", folder=tmp_path, answers="", DOCKER_HOST="tcp://127.0.0.1:9")
    assert "Starting Build inside a container" in output
    assert "Do you have python for runtime" not in output


def doctor(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DOCTOR],
        env={"PATH": str(path), "HOME": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_doctor_names_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    ran = doctor(tmp_path)
    assert ran.returncode == 1
    for what in ("npm", "AWS SAM CLI", "Docker", "AWS credentials", "AWS region"):
        assert f"MISSING {what}" in ran.stdout
    assert ran.stdout.count("->") == ran.stdout.count("MISSING")


def test_the_doctor_finds_nothing_on_a_complete_machine(tmp_path: Path) -> None:
    versions = {
        "make": "GNU Make 4.3",
        "npm": "11.0.0",
        "chromium": "",
        "sam": "SAM CLI, version 1.170.0",
        "docker": "28.0.0, x86_64",
    }
    for name, version in versions.items():
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\necho '{version}'\n", encoding="utf-8")
        command.chmod(0o755)
    ran = doctor(tmp_path, AWS_ACCESS_KEY_ID="x", AWS_REGION="eu-central-1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "MISSING" not in ran.stdout
    (tmp_path / "sam").write_text("#!/bin/sh\necho 'SAM CLI, version 1.100.0'\n", encoding="utf-8")
    assert "MISSING AWS SAM CLI" in doctor(tmp_path, AWS_ACCESS_KEY_ID="x", AWS_REGION="eu-central-1").stdout
