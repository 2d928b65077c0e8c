"""The shipped models read the same on every processor: its integer arithmetic is exact."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carsight import runtime
from carsight.photo import decode
from carsight.plate.recognizer import PlateRecognizer, PlateTuning
from carsight.vin.recognizer import VinRecognizer, VinTuning
from tests.tolerance import differences
from training import designs

PHOTOS = Path(__file__).parents[1] / "data"
MODELS = sorted(path.stem for path in runtime.MODELS.glob("*.onnx"))

ON_THE_EDGE = 1e-3
"""Share of a convolution's results that may lie one step off: on the edge between two integers, the order of
float operations decides how the exact sum is rounded."""

Feeds = dict[str, list[dict[str, NDArray[np.float32]]]]


class Recorder:
    """A session that keeps what it is given."""

    def __init__(self, session: ort.InferenceSession, feeds: list[dict[str, NDArray[np.float32]]]) -> None:
        self._session = session
        self._feeds = feeds

    def run(self, names: list[str] | None, feed: dict[str, NDArray[np.float32]]) -> Any:
        self._feeds.append(feed)
        return self._session.run(names, feed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture(scope="module")
def feeds() -> Iterator[Feeds]:
    """What each model is given when the product reads a plate and a VIN of the sample photos."""
    found: Feeds = defaultdict(list)
    real = runtime.session
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "session", lambda path: Recorder(real(path), found[path.stem]))
        # Where nothing is sure, every reader is asked.
        plates = PlateRecognizer.load(tuning=PlateTuning(promising=2.0))
        unsure = VinTuning(settled=2.0, settled_twice=2.0, sure=2.0, agreed=2.0, barcodes=False)
        vins = VinRecognizer.load(tuning=unsure)
        photo = decode((PHOTOS / "plate_us.jpg").read_bytes())
        (plate,) = plates.read(photo)
        # A vehicle without a plate is looked at by both detectors.
        covered, box = photo.full().pixels.copy(), plate.box
        covered[box.ymin - 5 : box.ymax + 5, box.xmin - 5 : box.xmax + 5] = 40
        assert not plates.read(covered)
        assert vins.read(decode((PHOTOS / "vin_plate.jpg").read_bytes())).candidates
        message = np.full((300, 900, 3), 250, np.uint8)
        cv2.putText(message, "vin xtagfl110by123456", (60, 150), (40, 40, 40), cv2.FontFace("sans"), 30, 400)
        assert vins.read(message).candidates
    yield found


def beside_exact(path: Path) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model at ``path`` with every integer convolution done twice.

    Once by the processor's kernel, whose result goes on, and once in floats, which hold the integers and sums
    of these nets exactly.

    Returns:
        The model, which answers with both results of each convolution, and the names of these, in pairs.
    """
    model = onnx.load(path)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs: list[str] = []
    for node in [node for node in graph.node if node.op_type == "QLinearConv"]:
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.input
        weights = constants[w].astype(np.float32)
        zero = constants[w_zero].astype(np.float32).reshape(-1, *[1] * (weights.ndim - 1))
        step = (constants[x_scale] * constants[w_scale] / constants[y_scale]).reshape(1, -1, 1, 1)
        y = node.output[0]
        values = {"zero": constants[x_zero], "weights": weights - zero, "step": step}
        values |= {"y_zero": constants[y_zero], "least": 0, "most": 255}
        if bias:
            values["bias"] = constants[bias[0]]
        for name, value in values.items():
            graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), f"{y}/{name}"))

        def add(kind: str, *inputs: str, to: str, y: str = y, **attributes: Any) -> None:
            names = [f"{y}/{name}" for name in inputs]
            graph.node.append(helper.make_node(kind, names, [f"{y}/{to}"], **attributes))

        graph.node.append(helper.make_node("Cast", [x], [f"{y}/x"], to=TensorProto.FLOAT))
        add("Sub", "x", "zero", to="centered")
        add("Conv", "centered", "weights", *["bias" for _ in bias], to="sum")
        graph.node[-1].attribute.extend(node.attribute)
        add("Mul", "sum", "step", to="scaled")
        add("Round", "scaled", to="rounded")
        add("Add", "rounded", "y_zero", to="shifted")
        add("Clip", "shifted", "least", "most", to="exact")
        pairs += [y, f"{y}/exact"]
    del graph.output[:]
    for name, kind in zip(pairs, [TensorProto.UINT8, TensorProto.FLOAT] * (len(pairs) // 2), strict=True):
        graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return model, pairs


def test_both_plate_readers_have_the_same_alphabet_and_regions() -> None:
    """One reads small print for what the other has read, which has a share for each of its regions."""
    sessions = [runtime.session(runtime.MODELS / f"plate_reader{name}.onnx") for name in ("", "_lean")]
    plain, lean = (session.get_modelmeta().custom_metadata_map for session in sessions)
    assert {name: plain[name] for name in ("alphabet", "regions")} == {
        name: lean[name] for name in ("alphabet", "regions")
    }


def test_every_region_that_can_be_drawn_can_be_named() -> None:
    drawn = {each.region for each in designs.DESIGNS}
    for name in ("plate_reader", "plate_reader_lean"):
        metadata = runtime.session(runtime.MODELS / f"{name}.onnx").get_modelmeta().custom_metadata_map
        assert drawn <= set(json.loads(metadata["regions"]))


@pytest.mark.parametrize("name", MODELS)
def test_no_sum_of_two_products_leaves_16_bits(name: str) -> None:
    # Without VNNI, x86 adds two products of an unsigned activation and a signed weight in 16 bits.
    tensors = onnx.load(runtime.MODELS / f"{name}.onnx").graph.initializer
    signed = [t for t in tensors if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    assert signed
    largest = max(int(np.abs(numpy_helper.to_array(tensor).astype(int)).max()) for tensor in signed)
    assert 2 * 255 * largest < 2**15


@pytest.mark.parametrize("name", MODELS)
def test_integer_convolutions_are_exact_here(name: str, feeds: Feeds, tmp_path: Path) -> None:
    model, pairs = beside_exact(runtime.MODELS / f"{name}.onnx")
    onnx.save(model, tmp_path / "model.onnx")
    session = runtime.session(tmp_path / "model.onnx")
    assert pairs
    assert feeds[name]
    for feed in feeds[name]:
        results = session.run(pairs, feed)
        for here, exact, y in zip(results[::2], results[1::2], pairs[::2], strict=True):
            off = np.abs(here.astype(np.float32) - exact)
            assert off.max() <= 1, y
            assert np.count_nonzero(off) <= ON_THE_EDGE * off.size, y


def test_the_answer_in_the_readme_is_real() -> None:
    readme = (PHOTOS.parents[1] / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^{\"success\":true.*?^```", readme, re.DOTALL | re.MULTILINE)
    answer = json.loads(shown.removesuffix("```").replace(", …", "").replace("\n", ""))
    (told,) = answer["results"]
    (plate,) = PlateRecognizer.load().read(decode((PHOTOS / "plate_us.jpg").read_bytes()))
    read = {
        "box": asdict(plate.box),
        "plate": plate.text,
        "region": {"code": plate.region, "score": plate.region_score},
        "score": plate.score,
        "candidates": [{"score": plate.candidates[0].score, "plate": plate.candidates[0].text}],
    }
    assert list(differences(told, read)) == []
