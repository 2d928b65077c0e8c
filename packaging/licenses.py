"""List the licenses of everything that ships: ``python packaging/licenses.py`` writes docs/licenses.md.

What ships is what requirements/recognition.txt (the images), requirements/account.txt (the layer) and
requirements/batches.txt (beside one function) lock, and what is in the repository. Licenses of Python
packages are what the installed packages say of themselves; those of the libraries in their wheels are what
the wheels' own lists say. A package whose license is not known here, or a bundled library that is not listed,
is an error: look it up, then add it.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {"images": "recognition", "layer": "account", "batches": "batches"}

SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "MIT License": "MIT",
}
"""What packages call their license, where that is no SPDX expression."""

CORRECTIONS = {
    "aws-lambda-powertools": "MIT-0",
    "numpy": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",  # of both versions
    "pi-heif": "BSD-3-Clause; the wheel, for libheif and libde265: LGPL-3.0-or-later",
    "smart-open": "MIT",
}
"""Where a package's metadata says less than its files do."""

PERMISSIVE = re.compile(
    r"((MIT(-0|-CMU)?|BSD-[23]-Clause|0BSD|Apache-2\.0|PSF-2\.0|Zlib|CC0-1\.0)( (AND|OR) |$|; .*))+"
)
"""Licenses that ask for no more than their notice, which stays beside each package."""

LIBRARIES: dict[str, tuple[str, str]] = {
    # folder / library, as its file begins: (name, license)
    "numpy.libs/libgfortran": ("GCC runtime", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    "numpy.libs/libquadmath": ("libquadmath", "LGPL-2.1-or-later"),
    "numpy.libs/libscipy_openblas": ("OpenBLAS, LAPACK", "BSD-3-Clause, BSD-3-Clause-Open-MPI"),
    "opencv_python_headless.libs/libaom": ("libaom", "BSD-2-Clause"),
    "opencv_python_headless.libs/libav": ("FFmpeg", "LGPL-2.1-or-later"),
    "opencv_python_headless.libs/libavif": ("libavif", "BSD-2-Clause"),
    "opencv_python_headless.libs/libcrypto": ("OpenSSL 1.1.1", "OpenSSL"),
    "opencv_python_headless.libs/libdrm": ("libdrm", "MIT"),
    "opencv_python_headless.libs/libgfortran": ("GCC runtime", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    "opencv_python_headless.libs/libopenblas": ("OpenBLAS", "BSD-3-Clause"),
    "opencv_python_headless.libs/libpng": ("libpng", "libpng-2.0"),
    "opencv_python_headless.libs/libquadmath": ("libquadmath", "LGPL-2.1-or-later"),
    "opencv_python_headless.libs/libssl": ("OpenSSL 1.1.1", "OpenSSL"),
    "opencv_python_headless.libs/libsw": ("FFmpeg", "LGPL-2.1-or-later"),
    "opencv_python_headless.libs/libvpx": ("libvpx", "BSD-3-Clause"),
    "pi_heif.libs/libde265": ("libde265", "LGPL-3.0-or-later"),
    "pi_heif.libs/libheif": ("libheif", "LGPL-3.0-or-later"),
    "pillow.libs/libXau": ("libXau", "MIT"),
    "pillow.libs/libavif": ("libavif with dav1d, libaom, libyuv", "BSD-2-Clause, BSD-3-Clause"),
    "pillow.libs/libbrotli": ("Brotli", "MIT"),
    "pillow.libs/libfreetype": ("FreeType", "FTL OR GPL-2.0-or-later"),
    "pillow.libs/libharfbuzz": ("HarfBuzz", "MIT"),
    "pillow.libs/libjpeg": ("libjpeg-turbo", "IJG AND BSD-3-Clause AND Zlib"),
    "pillow.libs/liblcms2": ("Little CMS", "MIT"),
    "pillow.libs/liblzma": ("XZ Utils, liblzma", "0BSD"),
    "pillow.libs/libopenjp2": ("OpenJPEG", "BSD-2-Clause"),
    "pillow.libs/libpng": ("libpng", "libpng-2.0"),
    "pillow.libs/libsharpyuv": ("libwebp", "BSD-3-Clause"),
    "pillow.libs/libtiff": ("libtiff", "libtiff"),
    "pillow.libs/libwebp": ("libwebp", "BSD-3-Clause"),
    "pillow.libs/libxcb": ("libxcb", "MIT"),
    "pillow.libs/libzstd": ("Zstandard", "BSD-3-Clause OR GPL-2.0-only"),
}
"""Shared libraries in wheels. ``slim.prune`` puts stubs of our own in place of those that are not called."""

LINKED_IN = {
    "onnxruntime": ("onnxruntime/ThirdPartyNotices.txt", "MIT, Apache-2.0, BSD and others"),
    "opencv-python-headless": (
        "cv2/LICENSE-3RD-PARTY.txt",
        "libjpeg-turbo, libwebp, libtiff, OpenJPEG, zlib, Protocol Buffers, FlatBuffers, QUIRC, KAZE, AKAZE, "
        "MLAS (permissive), Intel ITT (BSD-3-Clause) and, on x86-64, Intel IPP (Intel Simplified Software "
        "License: use and redistribution, no reverse engineering)",
    ),
    "pybase64": ("", "libbase64 (BSD-2-Clause)"),
    "pydantic-core": ("", "Rust crates (MIT, Apache-2.0)"),
    "simplejpeg": ("", "libjpeg-turbo (IJG AND BSD-3-Clause AND Zlib)"),
    "zxing-cpp": ("", "zint's encoder (BSD-3-Clause)"),
}
"""What is linked into packages' extension modules: where their list is in the package, and what it names."""

OURS = (
    (
        "Carsight: code, pages, description, drawn photos (`tests/data`), tables of regions and makers",
        "Apache-2.0",
        "`LICENSE`",
    ),
    (
        "Models (`carsight/models/*.onnx`)",
        "Apache-2.0; the readers are fine-tuned from PP-OCRv6 small (PaddleOCR, Apache-2.0)",
        "`NOTICE`, `training/README.md`",
    ),
    (
        "Swagger UI 5.35.0 (`/docs`: script and style, with what is bundled in them)",
        "Apache-2.0",
        "`carsight_service/http/page/swagger-ui.LICENSE.txt`",
    ),
)

ASIDE = """\
No font ships: the pages use fonts of the reader's own system. No third-party photo ships; the training data
and its licenses are listed in `training/README.md`. The images' base, AWS's `lambda/python`, is not ours and
not listed here."""

LESS = """\
The images contain less than the wheels (`packaging/slim`): flatbuffers, packaging and protobuf are left out.
All libraries of OpenCV, and those of Pillow that no picture format here needs (libXau, Brotli, FreeType,
HarfBuzz, Little CMS, libpng, libxcb), are replaced by empty stubs or deleted. So neither FFmpeg nor OpenSSL
ships in the images.

libheif and libde265 (LGPL-3.0) are shared libraries in files of their own, in `pi_heif.libs`, which anybody
with an image or the sources of this repository can replace by other builds. So is libquadmath (LGPL-2.1), in
`numpy.libs`."""


def locked(name: str) -> dict[str, list[str]]:
    """Return the versions that requirements/``name``.txt pins, by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    pins: dict[str, list[str]] = {}
    for package, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[\w,-]+\])?==(\S+)", text, re.MULTILINE):
        pins.setdefault(package, []).append(version)
    return pins


def license_of(package: str) -> str:
    """Return the license of an installed package as an SPDX expression. Raises ``LookupError``."""
    if package in CORRECTIONS:
        return CORRECTIONS[package]
    about = metadata.metadata(package)
    declared = about["License-Expression"] or about["License"] or ""
    expression = SPDX.get(declared, declared)
    if not PERMISSIVE.fullmatch(expression):
        raise LookupError(f"{package}: look up what its license asks for, and add it here: {declared[:60]!r}")
    return expression


def libraries_of(package: str) -> dict[str, str]:
    """Return the licenses of the libraries that a package's wheel brings along. Raises ``LookupError``."""
    found: dict[str, str] = {}
    for file in metadata.files(package) or ():
        if len(file.parts) == 2 and file.parts[0].endswith(".libs"):
            known = [begin for begin in LIBRARIES if str(file).startswith(begin)]
            if not known:
                raise LookupError(f"{package}: {file} is not listed here")
            name, terms = LIBRARIES[max(known, key=len)]
            found[name] = terms
    return found


def document() -> str:
    """Return docs/licenses.md."""
    pins = {where: locked(name) for where, name in LOCKS.items()}
    packages = sorted({package for names in pins.values() for package in names})
    lines = [
        "# Licenses of what ships",
        "",
        "Written by `python packaging/licenses.py`; a test compares it with the lock files. Each package's",
        "license lies beside it in the images and the layer (`*.dist-info`), with those of what it includes.",
        "",
        "## Ours",
        "",
        "| Part | License | Notice |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in OURS),
        "",
        ASIDE,
        "",
        "## Python packages",
        "",
        "| Package | Version | In | License | Libraries in it |",
        "|---|---|---|---|---|",
    ]
    for package in packages:
        versions = sorted({version for names in pins.values() for version in names.get(package, ())})
        where = ", ".join(where for where, names in pins.items() if package in names)
        inside = [f"{name} ({terms})" for name, terms in sorted(libraries_of(package).items())]
        if package in LINKED_IN:
            listed, names = LINKED_IN[package]
            inside.append(f"linked in: {names}" + (f"; see `{listed}`" if listed else ""))
        lines.append(
            f"| {package} | {', '.join(versions)} | {where} | {license_of(package)} | {'; '.join(inside)} |"
        )
    lines += ["", LESS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "licenses.md").write_text(document(), encoding="utf-8")
