"""Remove from an image's packages what no request needs; run while the image is built.

    python -m slim.prune /opt/python

Half of what pip installs is for other uses: a second copy of ONNX Runtime for C programs, the API
descriptions of AWS's 400 other services, tests, type stubs, and the video codecs, the TLS library and the
linear algebra that OpenCV is linked with. These libraries cannot simply be deleted, as the loader needs every
library that cv2 names, so each becomes a stub (``slim.elf_stubs``). docs/decisions.md has the savings, and
tests/integration/test_slim.py runs every OpenCV function that the product uses with the result.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slim.elf_stubs import Symbol, loaded, read_library, stub

UNUSED = (
    "*.dist-info/RECORD",
    "*.dist-info/sboms",
    "**/tests",
    "**/*.pyi",
    "**/*.a",
    "**/*_tests.*.so",
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/auth_alpha",
    "aws_lambda_powertools/utilities/batch",
    "aws_lambda_powertools/utilities/circuit_breaker",
    "aws_lambda_powertools/utilities/data_classes",
    "aws_lambda_powertools/utilities/data_masking",
    "aws_lambda_powertools/utilities/feature_flags",
    "aws_lambda_powertools/utilities/kafka",
    "aws_lambda_powertools/utilities/metadata",
    "aws_lambda_powertools/utilities/parameters",
    "aws_lambda_powertools/utilities/parser",
    "aws_lambda_powertools/utilities/streaming",
    "aws_lambda_powertools/utilities/validation",
    "PIL/ImageCms.py",
    "PIL/ImageDraw*.py",
    "PIL/ImageFont.py",
    "PIL/ImageGrab.py",
    "PIL/ImageMorph.py",
    "PIL/ImageQt.py",
    "PIL/ImageShow.py",
    "PIL/ImageText.py",
    "PIL/ImageTk.py",
    "PIL/ImageWin.py",
    "PIL/PSDraw.py",
    "PIL/PdfParser.py",
    "PIL/_imagingcms.*",
    "PIL/_imagingft.*",
    "PIL/_imagingmath.*",
    "PIL/_imagingmorph.*",
    "PIL/_imagingtk.*",
    "PIL/_webp.*",
    "bin",
    "boto3/data",
    "boto3/examples",
    "botocore/data/*/*/examples-1.json",
    "cv2/LICENSE-3RD-PARTY.txt",
    "cv2/data",
    "dateutil/zoneinfo/*.tar.gz",
    "flatbuffers*",
    "google",
    "numpy/_core/_simd.*.so",
    "numpy/_core/include",
    "numpy/_pyinstaller",
    "numpy/distutils",
    "numpy/f2py",
    "numpy/fft",
    "numpy/ma",
    "numpy/polynomial",
    "numpy/random",
    "numpy/testing",
    "onnxruntime/backend",
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "packaging*",
    "protobuf*",
    "pydantic/mypy.py",
    "pydantic/v1",
    "urllib3/contrib/emscripten",
    "wrapt/*.c",
)
"""Globs, relative to the packages' folder. ONNX Runtime requires packaging, protobuf and flatbuffers, but
only uses them for building models. boto3's data is for its resources; OpenCV's licenses are also in its
metadata."""

SERVICES = {"dynamodb", "events", "s3", "sns", "sqs", "sts"}
"""The services whose descriptions botocore keeps."""

PLUGINS = {"Avif", "Bmp", "Gif", "Jpeg", "Png", "Tiff"}
"""The formats whose plugins Pillow keeps; TIFF files may contain JPEG."""

LINKED = {
    "opencv_python_headless.libs": ("cv2", ("libavif",)),
    "pillow.libs": (
        "PIL",
        ("libavif", "libjpeg", "liblzma", "libopenjp2", "libsharpyuv", "libtiff", "libzstd"),
    ),
}
"""By folder of libraries: the package that is linked with them, and the libraries that it really calls.
OpenCV decodes only WebP here, with its built-in libwebp, but first asks libavif whether it is AVIF. Pillow
asks OpenJPEG for its version when it is imported."""

EMPTIED = ("numpy/_core/_add_newdocs.py", "numpy/_core/_add_newdocs_scalars.py")
"""Modules that are imported but only add docstrings to others; they are emptied."""


def prune(packages: Path) -> None:
    """Remove from the folder ``packages`` what no request needs."""
    remove_unused(packages)
    for module in EMPTIED:
        (packages / module).write_text("", encoding="utf-8")
    trim_descriptions(packages)
    replace_libraries(packages)
    for library in packages.rglob("*.so*"):
        library.write_bytes(loaded(library.read_bytes()))


def remove_unused(packages: Path) -> None:
    """Delete what matches ``UNUSED``, and all services and picture formats that are not kept."""
    unused = [path for pattern in UNUSED for path in packages.glob(pattern)]
    unused += [
        path
        for path in (packages / "PIL").glob("*ImagePlugin.py")
        if path.name.removesuffix("ImagePlugin.py") not in PLUGINS
    ]
    unused += [
        path for path in (packages / "botocore/data").iterdir() if path.is_dir() and path.name not in SERVICES
    ]
    for path in unused:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def trim_descriptions(packages: Path) -> None:
    """Remove other services and all documentation from the data that botocore parses at a cold start."""
    endpoints = packages / "botocore/data/endpoints.json"
    known = json.loads(endpoints.read_bytes())
    for partition in known["partitions"]:
        partition["services"] = {
            name: about for name, about in partition["services"].items() if name in SERVICES
        }
    endpoints.write_text(json.dumps(known, separators=(",", ":")), encoding="utf-8")
    for packed in (packages / "botocore/data").glob("*/*/service-2.json.gz"):
        described = _without_prose(json.loads(gzip.decompress(packed.read_bytes())))
        packed.with_suffix("").write_text(json.dumps(described, separators=(",", ":")), encoding="utf-8")
        packed.unlink()


def _without_prose(value: Any, names: bool = False) -> Any:
    """Return a copy without documentation. With ``names`` keys are names, which may be "documentation"."""
    if isinstance(value, list):
        return [_without_prose(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_prose(item, names=not names and key in ("members", "operations", "shapes"))
        for key, item in value.items()
        if names or key != "documentation"
    }


def replace_libraries(packages: Path) -> None:
    """Replace libraries that are linked but not used by stubs; delete those that only these needed."""
    for folder, (package, prefixes) in LINKED.items():
        libraries = set((packages / folder).iterdir())
        used = {library for library in libraries if library.name.startswith(prefixes)}
        _replace(libraries - used, [*used, *(packages / package).glob("*.so")])


def _replace(unused: Iterable[Path], users: Iterable[Path]) -> None:
    """Replace ``unused`` libraries that ``users`` are linked with by stubs, and delete the others."""
    named: set[str] = set()
    needed: dict[str, Symbol] = {}
    for user in users:
        _, names, symbols = read_library(user)
        named |= names
        needed |= {symbol.name: symbol for symbol in symbols if not symbol.defined}
    for library in unused:
        if library.name in named:
            machine, _, exported = read_library(library)
            wanted = [needed[symbol.name] for symbol in exported if symbol.defined and symbol.name in needed]
            library.write_bytes(stub(library.name, machine, wanted))
        else:
            library.unlink()


if __name__ == "__main__":
    prune(Path(sys.argv[1]))
