"""``carsight read``: files and folders in, a table, JSON or CSV out, without a deployment."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from carsight.formats import HEIC, SUFFIXES
from carsight_service.cli import COMMANDS, main

DATA = Path(__file__).resolve().parents[1] / "data"
US, DE, NONE, LABEL = (
    DATA / f"{name}.jpg" for name in ("plate_us", "plate_de", "no_plate", "label_without_vin")
)

Printed = pytest.CaptureFixture[str]


def test_the_photos_of_a_folder_are_printed_as_json(tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "below").mkdir()
    for photo, name in ((US, "a.JPG"), (NONE, "below/b.jpg")):
        shutil.copy(photo, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    assert main(["read", str(tmp_path), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["file"], second) == (
        str(tmp_path / "a.JPG"),
        {"file": str(tmp_path / "below" / "b.jpg"), "plates": []},
    )
    (plate,) = first["plates"]
    assert (plate["text"], plate["region"], plate["vehicle"]["type"]) == ("7kmr204", "us-ca", "Sedan")


def test_csv_has_a_line_for_each_photo(capsys: Printed) -> None:
    assert main(["read", str(US), str(NONE), "--csv"]) == 0
    found, none = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (found["file"], found["plate"], found["region"]) == (str(US), "7kmr204", "us-ca")
    assert int(found["xmin"]) < int(found["xmax"])
    assert (none["file"], none["plate"], none["error"]) == (str(NONE), "", "")


def test_vins_are_printed_as_a_table(capsys: Printed) -> None:
    assert main(["read", "--vin", str(DATA / "vin_label.jpg"), str(LABEL)]) == 0
    header, vin, none = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["FILE", "VIN", "CONFIDENCE", "SOURCE"]
    assert (vin[1], vin[3]) == ("1M8GDM9AXKP042788", "both")
    assert none[1:] == ["-"]


def test_unreadable_files_are_reported_and_the_others_read(tmp_path: Path, capsys: Printed) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    assert main(["read", str(broken), str(US), "--csv"]) == 1
    printed = capsys.readouterr()
    first, second = csv.DictReader(io.StringIO(printed.out))
    assert "This is text, not a picture" in first["error"]
    assert second["plate"] == "7kmr204"
    assert "1 of 2 photos could not be read" in printed.err


def test_draw_writes_copies_with_what_was_read(tmp_path: Path, capsys: Printed) -> None:
    before = US.read_bytes()
    for folder in ("gate", "yard"):  # two photos of one name do not overwrite each other
        (tmp_path / folder).mkdir()
        shutil.copy(US, tmp_path / folder / "1.jpg")
    drawn = tmp_path / "drawn"
    paths = [str(tmp_path / "gate" / "1.jpg"), str(tmp_path / "yard" / "1.jpg"), str(DE)]
    assert main(["read", *paths, "--draw", str(drawn)]) == 0
    assert US.read_bytes() == before
    copies = sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.jpg"))
    assert len(copies) == 3
    assert [copy[-10:] for copy in copies if copy != "plate_de.jpg"] == ["gate/1.jpg", "yard/1.jpg"]
    photo = np.asarray(cv2.imread(str(DE)), np.int16)
    copy = np.asarray(cv2.imread(str(drawn / "plate_de.jpg")), np.int16)
    changed = np.abs(photo - copy).max(axis=2) > 80
    assert changed[440:520, 500:745].sum() > 400  # around the plate
    assert changed[:300].sum() == 0  # and nowhere else
    assert main(["read", str(DE), "--draw", str(DE.parent)]) == 1
    assert "would overwrite" in capsys.readouterr().err


def test_every_suffix_taken_from_a_folder_can_be_read(tmp_path: Path, capsys: Printed) -> None:
    written = SUFFIXES - set(HEIC.suffixes)  # nothing here encodes HEIC
    with Image.open(US) as photo:
        for suffix in written:
            photo.save(tmp_path / f"photo{suffix}")
    assert main(["read", str(tmp_path), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert len(results) == len(written)
    assert all(result["plates"][0]["text"] == "7kmr204" for result in results)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["read", "nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["read", str(DATA / "README.md")], "could not be read"),
    ],
)
def test_errors_are_explained(arguments: list[str], complaint: str, capsys: Printed) -> None:
    assert main(arguments) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["read"], ["read", str(US), "--region", "xx"], ["read", str(US), "--threads", "0"], ["reed"], []],
)
def test_an_unknown_command_is_a_usage_error(arguments: list[str], capsys: Printed) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: carsight" in capsys.readouterr().err


_WITHOUT = """
import sys
for module in sys.argv[1].split(","):
    sys.modules[module] = None  # as if it were not installed
from carsight_service.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run_without(modules: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where ``modules`` are not installed."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, modules, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_reading_imports_only_the_engine() -> None:
    ran = run_without("boto3,botocore,pydantic,urllib3,tqdm,yaml", "read", str(US))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "7kmr204" in ran.stdout


def test_a_closed_output_pipe_is_not_an_error() -> None:
    """Such as ``head``: its end of the pipe is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "carsight_service.cli", "read", str(US)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"read"}))
def test_the_other_commands_do_not_import_the_engine(command: str) -> None:
    ran = run_without("cv2,numpy,onnxruntime,zxingcpp", command, "--help")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"usage: carsight {command}")


def test_without_a_region_or_credentials_the_error_names_the_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    assert main(["keys", "list"]) == 1
    remedy = "give --region and --profile, or --local for the service started by `make run`"
    assert capsys.readouterr().err == f"carsight: You must specify a region: {remedy}\n"


def test_a_missing_package_is_named_with_its_remedy() -> None:
    ran = run_without("boto3", "keys", "list")
    assert ran.returncode == 1
    assert ran.stderr == (
        "carsight: keys needs boto3, which is not installed: pip install '.[cli]' in a checkout\n"
    )
