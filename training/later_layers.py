"""A plate detector's later layers, trained on from what the first layers of its INT8 model see.

Edges and strokes look alike in all photos: new photos teach the layers from stride 32 on, and those that mix
the three grids. The first layers, more than half of the work, stay as they are. They run in integers where
batches are made, and what follows learns from the numbers that it will get. The model itself teaches the
corners that the readers are used to.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from carsight import runtime
from training.config import LaterLayersConfig
from training.data import Pixels
from training.detector import PlateDetector, Tensors
from training.detector_loss import Cells, corner_errors
from training.nets import STRIDES, Conv, DetectorNet, fold_batch_norms, load_folded
from training.quantize import float_weights
from training.rounding import round_weights
from training.scenes import Scenes

_LAST_OF = {"fine": "stem.4.0.", "middle": "middle.2.0."}
"""The convolutions whose answers are taken, by the names of their weights."""

_LEANS = 0.3
"""How far to the left and upwards, in a frame's pixels, the shipped model of 28 November sees corners: those
that it learned from stood off by half a pixel (``scenes._warped``)."""


class _Later(DetectorNet):
    """The net, asked by the maps of its first layers."""

    def forward(self, maps: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return what ``DetectorNet`` does."""
        return self.found_in(*maps)


class FirstLayers:
    """The INT8 model's first layers, and what all of it answers."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path))
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._maps: dict[str, tuple[float, int]] = {}
        outputs = []
        for start in _LAST_OF.values():
            (node,) = (
                node
                for node in model.graph.node
                if node.op_type == "QLinearConv" and node.input[3].startswith(start)
            )
            outputs.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UINT8, None))
            self._maps[node.output[0]] = float(constants[node.input[6]]), int(constants[node.input[7]])
        model.graph.output.extend(outputs)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = runtime.picture_input(self._session)

    def see(self, image: Pixels) -> dict[str, Any]:
        """Return ``fine`` and ``middle`` (1 x channels x H x W) and ``teacher``, the targets (1 x 14 x N)."""
        asked = ["targets", *self._maps]
        targets, *maps = self._session.run(asked, {"image": self._input([image])})
        seen = {
            name: np.float32(scale) * (raw.astype(np.float32) - zero)
            for name, raw, (scale, zero) in zip(_LAST_OF, maps, self._maps.values(), strict=True)
        }
        return seen | {"teacher": targets}


class LaterLayers(PlateDetector):
    """Finds plates and vehicles."""

    config: LaterLayersConfig

    def net(self) -> DetectorNet:
        """Return the net of the configuration's model, its normalizations folded for good."""
        net = _Later()
        load_folded(net, float_weights(Path(self.config.model)))
        folded = fold_batch_norms(net)
        assert isinstance(folded, DetectorNet)
        return folded

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them; of the first layers none learns."""
        assert isinstance(net, DetectorNet)
        round_weights(module[0] for module in net.modules() if isinstance(module, Conv))
        for parameter in [*net.stem.parameters(), *net.middle.parameters()]:
            parameter.requires_grad_(False)
        learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in learning if p.ndim > 1], "share": 1.0},
            {"params": [p for p in learning if p.ndim <= 1], "share": 1.0, "weight_decay": 0.0},
        ]

    @cached_property
    def _first(self) -> FirstLayers:
        return FirstLayers(Path(self.config.model))

    def _batches(self, scenes: Scenes) -> Iterator[Tensors]:
        for batch in super()._batches(scenes):
            seen = [self._first.see(image) for image in batch["image"].numpy()]
            yield batch | {
                name: torch.from_numpy(np.concatenate([each[name] for each in seen])) for name in seen[0]
            }

    def images(self, batch: Tensors) -> Any:
        """Return the maps of the first layers."""
        return tuple(batch[name].contiguous(memory_format=torch.channels_last) for name in _LAST_OF)

    def loss(self, outputs: Any, batch: Tensors) -> Tensors:
        """Return the terms of the loss; ``taught`` is how far corners are from those that the model sees."""
        terms = super().loss(outputs, batch)
        side = batch["image"].shape[1]
        cells = Cells.of(side, side, STRIDES)
        teacher = batch["teacher"].transpose(1, 2)
        sure = teacher[..., 0] > 0
        weight = teacher[..., 0][sure].sigmoid()
        goal = cells.corners(teacher[..., 5:13])[sure] + _LEANS
        corners = cells.corners(outputs[0].float().transpose(1, 2)[..., 5:13])[sure]
        taught = (corner_errors(corners, goal) * weight).sum() / weight.sum().clamp(min=1.0)
        return terms | {"taught": self.config.teach * taught}

    def write(self, net: nn.Module, path: Path) -> None:
        """Write the whole net."""
        whole = fold_batch_norms(DetectorNet())
        whole.load_state_dict(net.state_dict())
        super().write(whole, path)
