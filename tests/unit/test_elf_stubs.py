"""Stubs are libraries that the loader takes, and that end the process where they are called."""

from __future__ import annotations

import ctypes
import platform
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from pybase64 import _pybase64

from slim.elf_stubs import Symbol, loaded, read_library, stub
from tests.cv2_calls import CALLS
from tests.named import called

ROOT = Path(__file__).resolve().parents[2]
MACHINES = {"x86_64": 62, "aarch64": 183}
MACHINE = MACHINES.get(platform.machine(), 0)
SYMBOLS = [
    Symbol("av_read_frame", True, "LIBAVFORMAT_62"),
    Symbol("avio_close", True, "LIBAVFORMAT_62"),
    Symbol("swr_init", True, "LIBSWRESAMPLE_6"),
    Symbol("dgemm_", True, ""),
    *(Symbol(f"routine_{n}_", True, "") for n in range(500)),
]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not MACHINE, reason="stubs are for Lambda's loaders"
)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libstub-0123.so.6"
    path.write_bytes(stub(path.name, MACHINE, SYMBOLS))
    return path


def test_the_loader_finds_every_symbol_in_its_version(library: Path) -> None:
    opened = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    find = ctypes.CDLL(None).dlvsym
    find.restype = ctypes.c_void_p
    find.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    for symbol in SYMBOLS:
        assert ctypes.cast(getattr(opened, symbol.name), ctypes.c_void_p).value, symbol
        if symbol.version:
            assert find(opened._handle, symbol.name.encode(), symbol.version.encode()), symbol
            assert not find(opened._handle, symbol.name.encode(), b"LIBAVFORMAT_61"), symbol
    with pytest.raises(AttributeError):
        _ = opened.routine_500_


def test_a_stripped_library_still_works(tmp_path: Path) -> None:
    source = Path(_pybase64.__file__)
    bare = tmp_path / source.name
    bare.write_bytes(loaded(source.read_bytes()))
    assert bare.stat().st_size < 0.6 * source.stat().st_size
    code = "import _pybase64; print(_pybase64.__file__, _pybase64.b64encode_as_string(b'VIN'))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [str(bare), "VklO"]


def test_the_imports_of_a_library_are_read() -> None:
    opencv = next(Path(cv2.__file__).parent.glob("cv2*.so"))
    machine, needed, symbols = read_library(opencv)
    assert machine == MACHINE
    assert any(name.startswith("libavcodec") for name in needed)
    assert "PyInit_cv2" in {symbol.name for symbol in symbols if symbol.defined}
    versions = {symbol.version.partition("_")[0] for symbol in symbols if not symbol.defined}
    assert {"GLIBC", "LIBAVCODEC", "LIBSWSCALE"} <= versions


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_stub_is_small_and_of_its_machine(machine: int) -> None:
    data = stub("libstub.so", machine, SYMBOLS)
    assert data[:5] == b"\x7fELF\x02"
    assert int.from_bytes(data[18:20], "little") == machine
    assert len(data) < 64_000


def test_calling_a_stub_aborts_the_process(library: Path) -> None:
    call = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).dgemm_(); print('returned')"
    ran = subprocess.run([sys.executable, "-c", call, library], capture_output=True, check=False)
    assert -ran.returncode in (signal.SIGILL, signal.SIGTRAP)
    assert ran.stdout == b""


def test_every_opencv_function_that_the_product_names_is_tried() -> None:
    """``test_slim`` runs these calls where OpenCV is linked with stubs."""
    assert sorted(CALLS) == sorted(set(called("cv2")))
