"""What the shipped models say of themselves, and the stem that takes bytes to the same numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carsight import runtime
from carsight.detector import Detector
from carsight.plate.vehicles import VehicleClassifier
from carsight_service.contract.api import Box, Vehicle, VehicleType
from training.model_files import LARGEST, finish, from_groups, narrow, over_groups, pack_stem, repeat_cells

MODELS = runtime.MODELS


def test_vehicle_types_of_all_models_are_the_contracts() -> None:
    detector = Detector(runtime.session(MODELS / "plate_detector.onnx"))
    classifier = VehicleClassifier(runtime.session(MODELS / "plate_vehicle.onnx"))
    assert detector.vehicle_types == classifier.types
    assert {*classifier.types, "Unknown"} == set(get_args(VehicleType))
    for color in classifier.colors:
        for orientation in classifier.orientations:
            Vehicle.of(
                {
                    "score": 0.5,
                    "type": "Van",
                    "box": Box(xmin=0, ymin=0, xmax=1, ymax=1),
                    "color": color,
                    "orientation": orientation,
                }
            )


@pytest.mark.parametrize("name", ["plate_detector", "plate_detector_second", "vin_detector", "plate_vehicle"])
def test_image_inputs_are_packed_bytes(name: str) -> None:
    session = runtime.session(MODELS / f"{name}.onnx")
    (image,) = session.get_inputs()
    assert (image.type, image.shape[0], image.shape[3]) == ("tensor(uint8)", 1, 12)
    assert "Resize" not in {node.op_type for node in onnx.load(MODELS / f"{name}.onnx").graph.node}


@pytest.mark.parametrize("name", ["plate_detector", "plate_detector_second", "vin_detector"])
def test_detectors_have_a_threshold(name: str) -> None:
    session = runtime.session(MODELS / f"{name}.onnx")
    threshold = float(session.get_modelmeta().custom_metadata_map["threshold"])
    assert 0 < threshold < 1


def model_of(
    nodes: Sequence[onnx.NodeProto], kind: int, channels: int, constants: Mapping[str, Any]
) -> onnx.ModelProto:
    """A model of ``nodes`` from an ``image`` of this kind to the bytes ``out``."""
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("image", kind, [1, channels, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def stem(
    rng: np.random.Generator, size: int, stride: int, pad: int, weight_type: type[np.integer]
) -> onnx.ModelProto:
    """A quantized model of one convolution, with weights, scales and zero points of their own."""
    zero = np.array([0] * 8 if weight_type is np.int8 else rng.integers(100, 150, 8), weight_type)
    low, high = (-LARGEST, LARGEST) if weight_type is np.int8 else (0, 255)
    constants = {
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
        "weights": rng.integers(low, high + 1, (8, 3, size, size)).astype(weight_type),
        "weight_scale": rng.uniform(1e-3, 1e-2, 8).astype(np.float32),
        "weight_zero": zero,
        "out_scale": np.float32(0.02),
        "out_zero": np.uint8(120),
        "bias": rng.integers(-1000, 1000, 8).astype(np.int32),
    }
    weights = ["weights", "weight_scale", "weight_zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["bytes"]),
        helper.make_node(
            "QLinearConv",
            ["bytes", "scale", "zero", *weights, "out_scale", "out_zero", "bias"],
            ["out"],
            strides=[stride] * 2,
            pads=[pad] * 4,
            kernel_shape=[size] * 2,
        ),
    ]
    return model_of(nodes, TensorProto.FLOAT, 3, constants)


def answers(model: onnx.ModelProto, image: NDArray[np.generic], folder: Path) -> NDArray[np.uint8]:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return np.asarray(runtime.session(path).run(None, {"image": image})[0])


@pytest.mark.parametrize("size, stride, pad", [(3, 2, 1), (4, 4, 0), (6, 4, 1), (5, 2, 2), (7, 4, 3)])
@pytest.mark.parametrize("weight_type", [np.int8, np.uint8])
def test_a_packed_stem_gives_the_same_bits(
    size: int, stride: int, pad: int, weight_type: type[np.integer], tmp_path: Path
) -> None:
    rng = np.random.default_rng(size * 10 + stride)
    model = stem(rng, size, stride, pad, weight_type)
    pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    floats = (pixels.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
    expected = answers(model, floats, tmp_path)
    assert expected.std() > 1
    packed = pack_stem(model)
    assert np.array_equal(answers(packed, runtime.groups([pixels], 2 * stride), tmp_path), expected)
    (conv,) = (node for node in packed.graph.node if node.op_type == "QLinearConv")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in packed.graph.initializer}
    pads = next(list(each.ints) for each in conv.attribute if each.name == "pads")
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}["weights"]
    assert np.array_equal(from_groups(constants[conv.input[3]], stride, pads), original)


def with_colors(model: onnx.ModelProto, size: int, stride: int) -> onnx.ModelProto:
    """``model``, of any number of pictures, with a second convolution that takes them, without a bias."""
    graph = model.graph
    rng = np.random.default_rng(7)
    weights = rng.integers(-LARGEST, LARGEST + 1, (4, 3, size, size)).astype(np.int8)
    graph.initializer.append(numpy_helper.from_array(weights, "colors"))
    for name in ("weight_scale", "weight_zero"):
        first = next(numpy_helper.to_array(each) for each in graph.initializer if each.name == name)
        graph.initializer.append(numpy_helper.from_array(first[:4], f"colors_{name}"))
    parts = ["colors", "colors_weight_scale", "colors_weight_zero", "out_scale", "out_zero"]
    inputs = ["bytes", "scale", "zero", *parts]
    graph.node.append(
        helper.make_node(
            "QLinearConv", inputs, ["cells"], strides=[stride] * 2, kernel_shape=[size] * 2, pads=[0] * 4
        )
    )
    graph.output.append(helper.make_tensor_value_info("cells", TensorProto.UINT8, None))
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "pictures"
    return model


def test_other_layers_that_read_whole_pixel_groups_give_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    model = with_colors(stem(rng, 3, 2, 1, np.int8), 8, 8)
    pictures = list(rng.integers(0, 256, (3, 48, 160, 3), dtype=np.uint8))
    paths = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(model, paths[0])
    onnx.save(pack_stem(model), paths[1])
    before, after = (runtime.session(path) for path in paths)
    expected = before.run(["out", "cells"], {"image": runtime.floats(pictures)})
    got = after.run(["out", "cells"], {"image": runtime.picture_input(after)(pictures)})
    assert got[1].shape == (3, 4, 6, 20)
    for ours, theirs in zip(got, expected, strict=True):
        assert theirs.std() > 1
        assert np.array_equal(ours, theirs)


def test_layers_that_read_parts_of_pixel_groups_are_refused() -> None:
    for size, stride in ((6, 8), (8, 6)):
        with pytest.raises(ValueError, match="parts of groups"):
            pack_stem(with_colors(stem(np.random.default_rng(0), 3, 2, 1, np.int8), size, stride))


def test_a_stem_that_skips_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves pixels out"):
        over_groups(np.ones((8, 3, 3, 3), np.int8), np.zeros(1, np.int8), 4, 0)


@pytest.mark.parametrize("shape", [(1, 8, 2, 3), (1, 8, 1, 1), (1, 8, 5, 4)])
def test_repeated_cells_equal_nearest_upsampling(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    fine = rng.integers(0, 256, (*shape[:2], shape[2] * 2, shape[3] * 2), dtype=np.uint8)
    constants = {
        "scale": np.float32(0.1),
        "zero": np.uint8(7),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "fine": fine,
    }
    parts = ["image", "scale", "zero"]
    nodes = [
        helper.make_node(
            "Resize",
            ["image", "", "scales"],
            ["doubled"],
            "doubling",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node(
            "QLinearAdd",
            ["fine", *parts[1:], "doubled", *parts[1:], *parts[1:]],
            ["out"],
            domain="com.microsoft",
        ),
    ]
    model = model_of(nodes, TensorProto.UINT8, 8, constants)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    expected = answers(model, image, tmp_path)
    assert expected.std() > 1
    repeat_cells(model)
    assert [node.op_type for node in model.graph.node].count("Concat") == 2
    assert np.array_equal(answers(model, image, tmp_path), expected)


def test_a_stem_whose_units_are_not_bytes_is_refused() -> None:
    model = stem(np.random.default_rng(0), 3, 2, 1, np.int8)
    for tensor in model.graph.initializer:
        if tensor.name == "scale":
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(1 / 250, np.float32), "scale"))
    with pytest.raises(ValueError, match="1/255"):
        pack_stem(model)


def test_a_model_is_finished_once(tmp_path: Path) -> None:
    path = tmp_path / "plate_detector.onnx"
    onnx.save(stem(np.random.default_rng(0), 3, 2, 1, np.int8), path)
    for _ in range(2):
        finish(path)
        session = runtime.session(path)
        assert session.get_inputs()[0].type == "tensor(uint8)"
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"])[0] == "Big Truck"


def test_weights_of_8_bits_become_7_and_answers_hardly_move() -> None:
    rng = np.random.default_rng(4)
    model = stem(rng, 3, 2, 1, np.int8)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    weights[1] //= 8  # an output of small weights, whose scale must go down and not up
    tensors["weights"].CopyFrom(numpy_helper.from_array(weights, "weights"))
    scales = numpy_helper.to_array(tensors["weight_scale"])
    exact = (weights * scales.reshape(-1, 1, 1, 1)).astype(np.float64)
    bias = numpy_helper.to_array(tensors["bias"]) * scales
    narrow(model)
    integers, steps = (numpy_helper.to_array(tensors[name]) for name in ("weights", "weight_scale"))
    assert (np.abs(integers.astype(int)).reshape(8, -1).max(axis=1) == LARGEST).all()
    off = np.abs(integers * steps.reshape(-1, 1, 1, 1) - exact)
    assert (off <= 0.5001 * steps.reshape(-1, 1, 1, 1)).all()
    np.testing.assert_allclose(numpy_helper.to_array(tensors["bias"]) * steps, bias, atol=float(steps.max()))
    before = model.SerializeToString()
    narrow(model)
    assert model.SerializeToString() == before


def test_weights_that_are_not_symmetric_are_refused() -> None:
    with pytest.raises(ValueError, match="not signed and symmetric"):
        narrow(stem(np.random.default_rng(0), 3, 2, 1, np.uint8))
