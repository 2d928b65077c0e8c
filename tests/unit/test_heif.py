"""HEIC and AVIF: what is decoded is counted in the coded pictures, whatever the container declares."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carsight import heif
from carsight.formats import ImageError, TooManyPixels
from carsight.heif import workload
from carsight.photo import decode
from tests.hostile import pictures
from tests.hostile.pictures import Item, coded, size_box

DATA = Path(__file__).resolve().parents[1] / "data"
HEIC = DATA / "red_corner.heic"
SETUP, CONTENT = coded(HEIC.read_bytes(), b"hvcC")
TILE = Item(b"hvc1", CONTENT, [size_box(120, 80), SETUP])


def avif(width: int, height: int, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(file, "AVIF", speed=10, **options)
    return file.getvalue()


def grid(rows: int, columns: int, tiles: list[int], **items: Item) -> bytes:
    """A HEIC of ``rows`` x ``columns`` tiles of 120 x 80."""
    width, height = 120 * columns, 80 * rows
    layout = bytes([0, 1, rows - 1, columns - 1]) + width.to_bytes(4) + height.to_bytes(4)
    whole = Item(b"grid", layout, [size_box(width, height)], tiles)
    return pictures.heif(b"heic", {1: whole, **dict.fromkeys(tiles, TILE)})


def sequence_header(width: int, height: int, chroma: int = 1, layers: int = 0, deeper: int = 0) -> bytes:
    """The beginning of HEVC's sequence parameter set (H.265, 7.3.2.2)."""

    def golomb(value: int) -> str:
        bits = f"{value + 1:b}"
        return "0" * (len(bits) - 1) + bits

    bits = f"{0:04b}{layers:03b}1" + "10" * 48
    bits += "11" * layers + "00" * (8 - layers if layers else 0) + "01" * 48 * layers
    bits += golomb(0) + golomb(chroma) + ("0" if chroma == 3 else "") + golomb(width) + golomb(height)
    bits += "1" + golomb(0) + golomb(3) * 3 + golomb(deeper) * 2
    bits += "1" * (-len(bits) % 8)
    plain = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return b"\x42\x01" + plain.replace(b"\0\0\0", b"\0\0\3\0").replace(b"\0\0\1", b"\0\0\3\1")


@pytest.mark.parametrize("file", sorted(DATA.glob("*.heic")), ids=lambda file: file.stem)
def test_the_size_of_a_heic_is_read(file: Path) -> None:
    pixels = workload(file.read_bytes()).pixels
    assert pixels == 120 * 80 * (2 if file.stem == "transparent" else 1)


@pytest.mark.parametrize("width, height", [(8, 8), (640, 480), (4096, 3000)])
def test_the_size_of_an_avif_is_read(width: int, height: int) -> None:
    assert workload(avif(width, height)).pixels == width * height


def test_transparency_is_decoded_too() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (64, 96, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", speed=10)
    assert workload(file.getvalue()).pixels == 2 * 64 * 96


@pytest.mark.parametrize("width, height", [(16, 8), (1920, 1080), (16_384, 12_000)])
@pytest.mark.parametrize("chroma", [1, 3])
@pytest.mark.parametrize("layers", [0, 1, 6])
def test_a_sequence_header_is_read(width: int, height: int, chroma: int, layers: int) -> None:
    found = heif._hevc_size(sequence_header(width, height, chroma, layers))
    assert found == (width * height, width * height * (3 if chroma == 3 else 1.5))


@pytest.mark.parametrize("chroma, bytes_a_pixel", [(0, 2), (1, 3), (2, 4), (3, 6)])
def test_ten_bits_take_two_bytes(chroma: int, bytes_a_pixel: int) -> None:
    found = heif._hevc_size(sequence_header(5712, 4284, chroma, deeper=2))
    assert found.plane_bytes == 5712 * 4284 * bytes_a_pixel


def test_pictures_with_more_bits_may_have_fewer_pixels() -> None:
    unit = sequence_header(5712, 4284, chroma=3, deeper=2)
    deep = replace(TILE, content=len(unit).to_bytes(4) + unit + CONTENT)
    with pytest.raises(TooManyPixels, match="147 MB as it is coded"):
        decode(pictures.heif(b"heic", {1: deep}))


def test_a_sequence_header_among_the_picture_s_data_counts() -> None:
    unit = sequence_header(16_000, 16_000)
    larger = replace(TILE, content=len(unit).to_bytes(4) + unit + CONTENT)
    data = pictures.heif(b"heic", {1: larger})
    assert workload(data).pixels == 16_000**2
    with pytest.raises(TooManyPixels, match=r"coded as 256\.0 megapixels"):
        decode(data)


def test_an_avif_that_declares_less_than_it_contains_is_refused() -> None:
    data = avif(8000, 7000)
    at = data.index(b"ispe") + 8
    data = data[:at] + (640).to_bytes(4) + (480).to_bytes(4) + data[at + 8 :]
    with pytest.raises(TooManyPixels, match=r"coded as 56\.0 megapixels"):
        decode(data)


def test_frames_are_counted() -> None:
    setup, content = coded(avif(640, 480), b"av1C")
    many = pictures.heif(b"avif", {1: Item(b"av01", content * 200, [size_box(640, 480), setup])})
    assert workload(many).pixels == 200 * 640 * 480
    with pytest.raises(TooManyPixels):
        decode(many)


def test_a_picture_of_tiles_is_read() -> None:
    photo = decode(grid(2, 3, [2, 3, 4, 5, 6, 7]))
    assert (photo.width, photo.height) == (360, 160)


def test_a_repeated_tile_counts_each_time() -> None:
    assert workload(grid(10, 10, [2] * 100)).pixels == 100 * 120 * 80
    with pytest.raises(TooManyPixels):
        decode(grid(80, 80, [2] * 6400))


def test_the_container_s_parameter_sets_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    size = heif._hevc_size

    def counted(unit: bytes) -> heif.Workload:
        nonlocal read
        read += 1
        return size(unit)

    monkeypatch.setattr(heif, "_hevc_size", counted)
    tiles = list(range(2, 102))
    assert workload(grid(10, 10, tiles)).pixels == 100 * 120 * 80
    assert read == 1


@pytest.mark.parametrize(
    ("brand", "tile"),
    [(b"heic", replace(TILE, content=bytes(4 * 300))), (b"avif", Item(b"av01", b"\x12\0" * 300))],
)
def test_the_coded_units_of_all_tiles_are_bounded_together(brand: bytes, tile: Item) -> None:
    def tiles(count: int) -> bytes:
        numbers = list(range(2, 2 + count))
        whole = Item(b"grid", bytes(12), [size_box(120, 80)], numbers)
        return pictures.heif(brand, {1: whole, **dict.fromkeys(numbers, tile)}) + bytes(50_000)

    assert workload(tiles(60)).pixels >= 0
    with pytest.raises(heif.Malformed):
        workload(tiles(70))


def test_reading_references_does_not_copy_the_file() -> None:
    cut = 0

    class Counted(bytes):
        def __getitem__(self, place: Any) -> Any:
            nonlocal cut
            part = super().__getitem__(place)
            cut += len(part) if isinstance(place, slice) else 0
            return part

    items = {n: Item(b"hvc1", b"", (), [1]) for n in range(2, 502)}
    data = pictures.heif(b"heic", {1: TILE, **items})
    assert workload(Counted(data)).pixels == 120 * 80
    assert cut < 2 * len(data)


Wrong = Callable[[], bytes]

MALFORMED: dict[str, Wrong] = {
    "made of itself": lambda: pictures.heif(b"heic", {1: Item(b"grid", bytes(12), (), [1])}),
    "made of each other": lambda: pictures.heif(
        b"heic", {1: Item(b"iden", b"", (), [2]), 2: Item(b"iden", b"", (), [1])}
    ),
    "belongs to what it is made of": lambda: pictures.heif(
        b"heic", {1: Item(b"iden", b"", (), [2]), 2: Item(b"iden", b"", (), [1], belongs_to=1)}
    ),
    "no such item": lambda: pictures.heif(b"heic", {1: TILE}, primary=9),
    "made of no item": lambda: pictures.heif(b"heic", {1: Item(b"grid", bytes(12), (), [7])}),
    "coded in another way": lambda: pictures.heif(b"heic", {1: Item(b"unci", bytes(99))}),
    "no description": lambda: HEIC.read_bytes().replace(b"meta", b"beta"),
    "a box that goes back": lambda: HEIC.read_bytes()[:28] + b"\0\0\0\1free" + b"\xff" * 8,
    "boxes without end": lambda: HEIC.read_bytes()[:28] + b"\0\0\0\x08free" * 30_000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_undeterminable_sizes_are_refused(name: str) -> None:
    data = MALFORMED[name]()
    with pytest.raises(heif.Malformed):
        workload(data)
    with pytest.raises(ImageError):
        decode(data)


def test_a_box_cut_in_its_length_is_refused() -> None:
    data = HEIC.read_bytes() + b"\0\0\0\1free\0\0"
    assert workload(data).pixels > 0
    with pytest.raises(heif.Malformed):
        heif.without_sequence(data)
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.parametrize("place", range(0, 370, 3))
def test_any_broken_byte_is_handled(place: int) -> None:
    data = bytearray(HEIC.read_bytes())
    for value in (0, 255, data[place] ^ 1):
        data[place] = value
        with suppress(heif.Malformed):
            assert workload(bytes(data)).pixels >= 0


def test_the_primary_picture_of_an_animation_is_read() -> None:
    data = avif(120, 80, save_all=True, append_images=[Image.new("RGB", (120, 80), "white")] * 3)
    assert b"moov" in data
    photo = decode(data)
    assert (photo.width, photo.height) == (120, 80)
    assert abs(int(photo.pixels.mean()) - 90) < 3
