"""What the models are trained with and exported by, as far as it needs no Torch."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carsight.geometry import box_corners
from carsight.pixels import straighten
from carsight.plate.vehicles import proportions
from carsight.vin.rules import ALPHABET
from training.camera import farther
from training.data import VEHICLE_TYPES, bodies
from training.model_files import pack_stem
from training.plates_data import Plate
from training.quantize import float_weights, quantize
from training.render_numbers import code
from training.render_vins import strike
from training.scenes import Scene, Scenes, _from_the_front, _paste, _warped
from training.vin_glyphs import Style, set_line


@pytest.fixture
def quantized(tmp_path: Path) -> tuple[onnx.ModelProto, NDArray[np.float32]]:
    """One convolution, quantized, and its float weights."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    weights *= np.array([1, 9, 0.1, 3], np.float32).reshape(4, 1, 1, 1)
    constants = {"stem.0.0.weight": weights, "stem.0.0.bias": np.array([0.5, -1, 0, 2], np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node(
                "Conv",
                ["image", *constants],
                ["y"],
                "conv",
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                kernel_shape=[3, 3],
            )
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "float.onnx")
    pixels = rng.uniform(0, 1, (3, 1, 3, 16, 16)).astype(np.float32)
    pixels[:, 0, 0, 0, :2] = 0, 1
    quantize(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        ({"image": one} for one in pixels),
        op_types=("Conv",),
    )
    return onnx.load(tmp_path / "int8.onnx"), weights


def test_weights_have_seven_bits_so_that_no_processor_saturates(
    quantized: tuple[onnx.ModelProto, NDArray[np.float32]],
) -> None:
    model, _ = quantized
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (conv,) = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    assert constants[conv.input[3]].dtype == np.int8
    assert np.abs(constants[conv.input[3]].astype(int)).max(axis=(1, 2, 3)).tolist() == [64] * 4


@pytest.mark.parametrize("packed", [False, True])
def test_float_weights_come_back_within_half_a_step(
    quantized: tuple[onnx.ModelProto, NDArray[np.float32]], packed: bool, tmp_path: Path
) -> None:
    model, weights = quantized
    onnx.save(pack_stem(model) if packed else model, tmp_path / "shipped.onnx")
    found = float_weights(tmp_path / "shipped.onnx")
    step = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 64
    assert (np.abs(found["stem.0.0.weight"] - weights) <= 0.501 * step).all()
    assert found["stem.0.0.bias"] == pytest.approx([0.5, -1, 0, 2], abs=0.01)


def test_a_close_up_shows_one_target_whole_and_nothing_is_lost_from_sight() -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    plates = np.array([(100, 100, 180, 140), (185, 100, 265, 140)], np.float32)
    for x0, y0, x1, y1 in plates.astype(int):
        photo[y0:y1, x0:x1] = 255
    scene = Scene(
        Path("photo"),
        np.stack([box_corners(box) for box in plates]),
        np.array([True, False]),
        plates,
        np.zeros(2, np.float32),
        vehicles=np.array([(50, 20, 350, 280)], np.float32),
        types=np.array([4], np.float32),
    )
    sizes = set()
    for seed in range(40):
        part, seen = Scenes([scene], [], [], 64, seed)._close_up(photo, scene)
        sizes.add(part.shape)
        for box, quad in zip(seen.boxes, seen.quads, strict=True):
            x0, y0, x1, y1 = box.astype(int)
            assert part[max(y0, 0) : y1, max(x0, 0) : x1].min() == 255
            assert quad == pytest.approx(box_corners(box))
        assert len(seen.boxes) >= 1
        # The other one is a target too, may be one, or is not in the picture.
        other = part[part.shape[0] // 2].max(axis=1)
        runs = np.count_nonzero(np.diff(np.r_[0, other, 0].astype(int)) > 0)
        assert len(seen.boxes) + len(seen.unsure) == runs
        assert len(seen.vehicles) == 0
        assert len(seen.unsure_vehicles) == 1
    assert len(sizes) > 10


@pytest.mark.parametrize("zoom", [0.3, 0.5, 1.0, 2.5])
def test_what_is_warped_for_training_lies_where_its_label_says(zoom: float) -> None:
    y, x = np.mgrid[:200, :300] + 0.5
    photo = np.asarray(255 * np.exp(-((x - 140) ** 2 + (y - 100) ** 2) / 400), np.uint8)
    matrix = np.array([[zoom, 0, 7.3], [0, zoom, 4.9], [0, 0, 1]])
    seen = _warped(photo, matrix, (800, 600), cv2.BORDER_CONSTANT)
    y, x = np.mgrid[: seen.shape[0], : seen.shape[1]] + 0.5
    middle = (seen * x).sum() / seen.sum(), (seen * y).sum() / seen.sum()
    assert middle == pytest.approx((140 * zoom + 7.3, 100 * zoom + 4.9), abs=0.05)


def test_a_dark_plate_over_a_light_one_stays_dark() -> None:
    crop = np.full((20, 60, 3), 60, np.uint8)
    crop[5:15, 10:24] = 230  # a ninth of the plate is letters
    photo, place = np.full((60, 120, 3), 235, np.uint8), np.array([30, 20, 90, 40], np.float32)
    for seed in range(10):
        seen = _paste(photo.copy(), crop, box_corners(place), place, np.random.default_rng(seed))
        assert np.median(seen[22:38, 60:88]) == pytest.approx(60, abs=8)


@pytest.mark.parametrize("dot", [0, 150])
def test_a_single_stroke_tool_writes_every_character_of_a_vin_otherwise(dot: int) -> None:
    style = Style("strokes", 40, 0.8, True, 1.0, 9, dot, 3)
    drawn = {}
    for character in ALPHABET:
        line, ((begin, end),) = set_line(character, style)
        drawn[character] = line[:, begin:end] > 128
        assert 0.03 < drawn[character].mean() < 0.5
    for one in ALPHABET:
        for other in ALPHABET[: ALPHABET.index(one)]:
            assert np.count_nonzero(drawn[one] ^ drawn[other]) > 10, one + other


def test_struck_marks_can_be_seen_whatever_the_light() -> None:
    marks, _ = set_line("1M8GDM9AXKP042788", Style("strokes", 30, 0.8, True, 1.0, 10))
    marks = np.pad(marks, 30)
    plain = np.full((*marks.shape, 3), 128, np.uint8)
    near = marks > 60
    for seed in range(12):
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        change = strike(marks, plain, rng).astype(int) - strike(np.zeros_like(marks), plain, same)
        assert np.abs(change[near]).mean() > 5
        assert np.abs(change[:15]).mean() < 3


@pytest.mark.parametrize("kind", ["Code39", "Code93", "Code128", "DataMatrix", "QRCode", "PDF417", "Aztec"])
def test_every_number_can_be_drawn_in_every_code(kind: str) -> None:
    assert code("AA:BB:CC:00:11:22", kind, 2).std() > 50


def test_a_line_seen_from_far_has_few_pixels_and_lies_where_its_corners_say() -> None:
    photo = np.full((100, 400, 3), 30, np.uint8)
    corners = np.array([(50, 40), (390, 40), (390, 60), (50, 60)], np.float32)
    photo[40:60, 50:390] = 220
    for seed in range(20):
        small, moved = farther(photo, corners, 17, np.random.default_rng(seed))
        assert 4.5 < float(np.hypot(*(moved[1] - moved[0]))) / 17 < 9.1
        assert straighten(small, moved, 64, 16, 0.0)[3:-3, 3:-3].min() > 150
    as_small = np.ascontiguousarray(photo[::5, ::5])
    still, same = farther(as_small, corners / np.float32(5), 17, np.random.default_rng(0))
    assert still.shape == as_small.shape
    assert np.array_equal(same, corners / np.float32(5))


def test_proportions_of_bodies_are_learned_from_the_labels(tmp_path: Path) -> None:
    """Of two bodies drawn with a spread, one is higher for its plate: unseen boxes of each are told apart."""
    rng = np.random.default_rng(5)

    def boxes(tall: float) -> tuple[list[float], list[float]]:
        width, height = 300 * rng.normal(1, 0.05), 200 * tall * rng.normal(1, 0.05)
        across = 100 * rng.normal(1, 0.05)
        return [50, 50, 50 + width, 50 + height], [150, 20 + height, 150 + across, 40 + height]

    plates = []
    for kind, tall in [("sedan", 1.0)] * 30 + [("bus", 1.5)] * 10:
        vehicle, plate = boxes(tall)
        plates.append({"box": plate, "vehicle": {"box": vehicle, "type": kind}})
    labels = [{"image": "x.jpg", "split": "train", "plates": plates}]
    for folder, listed in (("photos", labels), ("openimages2", [])):
        path = tmp_path / "plates" / folder / "labels.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(label) + "\n" for label in listed))
    known = {name: np.array(values) for name, values in bodies(tmp_path).items()}
    sedan, bus = VEHICLE_TYPES.index("Sedan"), VEHICLE_TYPES.index("Bus")
    assert known["shares"].sum() == pytest.approx(1, abs=0.001)
    assert known["shares"][sedan] > known["shares"][bus] > known["shares"][VEHICLE_TYPES.index("Van")] > 0
    for body, tall in ((sedan, 1.0), (bus, 1.5)):
        for _ in range(20):
            vehicle, plate = boxes(tall)
            seen = known["weights"] @ proportions(np.array(vehicle), np.array(plate)) + known["offsets"]
            assert (sedan, bus)[int(seen[bus] > seen[sedan])] == body


def test_a_plate_is_cut_as_seen_from_the_front() -> None:
    corners = np.array([(30, 20), (130, 40), (130, 80), (30, 60)], np.float32)
    photo = np.zeros((100, 160, 3), np.uint8)
    for at, (left, right) in enumerate(((0.0, 0.5), (0.5, 1.0))):
        half = np.stack(
            [
                corners[0] + (corners[1] - corners[0]) * left,
                corners[0] + (corners[1] - corners[0]) * right,
                corners[3] + (corners[2] - corners[3]) * right,
                corners[3] + (corners[2] - corners[3]) * left,
            ]
        )
        cv2.fillPoly(photo, [half.astype(np.int32)], (80 + 120 * at,) * 3)
    plate = Plate("world", photo, corners, False, False, "AB12", None, "a.webp")
    front = _from_the_front(plate)
    width = float(np.linalg.norm(corners[1] - corners[0])) * 1.04
    assert front.shape[:2] == (round(40 * 1.04), round(width))
    inner = front[4:-4, 4:-4, 0].astype(float)
    assert abs(inner[:, : inner.shape[1] // 2 - 3].mean() - 80) < 2
    assert abs(inner[:, inner.shape[1] // 2 + 3 :].mean() - 200) < 2
