"""Nets of plain 3x3 convolutions with ReLU, which is what INT8 on a CPU runs fastest.

For inference the batch normalization of every convolution is folded into it; ``load_folded`` and
``restore_norms`` make a net of such weights that can be trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import COLORS, ORIENTATIONS, VEHICLE_TYPES
from training.quantize import Weights
from training.rounding import plain_weights

STRIDES = (8, 16, 32)
TARGET_OUTPUTS = 14
"""Score, box (left, top, right, bottom distance), four corners (x, y), two rows."""
VEHICLE_OUTPUTS = 5 + len(VEHICLE_TYPES)
"""Score, box, body."""


class Conv(nn.Sequential):
    """Convolution, 3x3 if not said otherwise, batch normalization, ReLU.

    Where it keeps shape it starts near the identity, which does for a plain net what a shortcut would.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int | tuple[int, int] = 1,
        kernel: int | tuple[int, int] = 3,
        padding: tuple[int, int] | None = None,
    ) -> None:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (size[0] // 2, size[1] // 2) if padding is None else padding
        conv = nn.Conv2d(inputs, outputs, size, stride, around, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if stride == 1 and inputs == outputs:
            with torch.no_grad():
                conv.weight.mul_(0.7)
                nn.init.dirac_(extra := torch.empty_like(conv.weight))
                conv.weight.add_(extra)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class DetectorNet(nn.Module):
    """Images (B, 3, H, W), BGR 0..1, H and W multiples of 32, to raw outputs, cells last.

    These are targets (B, 14, N) over all three grids and vehicles (B, 12, M) over the two coarser ones.
    """

    def __init__(self, vehicles: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Conv(3, 16, 2), Conv(16, 24, 2), Conv(24, 48, 2), Conv(48, 48), Conv(48, 48)
        )
        self.middle = nn.Sequential(Conv(48, 96, 2), Conv(96, 96), Conv(96, 96))
        self.deep = nn.Sequential(Conv(96, 128, 2), Conv(128, 128), Conv(128, 128))
        self.deep_to_middle = Conv(128, 64, kernel=1)
        self.middle_side = Conv(96, 64, kernel=1)
        self.middle_mix = Conv(64, 64)
        self.middle_to_fine = Conv(64, 48, kernel=1)
        self.fine_mix = Conv(48, 48)
        widths = (48, 64, 64)
        self.deep_side = Conv(128, 64, kernel=1)
        self.target_towers = nn.ModuleList(Conv(width, width) for width in widths)
        self.target_heads = nn.ModuleList(nn.Conv2d(width, TARGET_OUTPUTS, 1) for width in widths)
        self.vehicle_towers = nn.ModuleList(Conv(64, 64) for _ in range(2 if vehicles else 0))
        self.vehicle_heads = nn.ModuleList(
            nn.Conv2d(64, VEHICLE_OUTPUTS, 1) for _ in range(2 if vehicles else 0)
        )
        for head in [*self.target_heads, *self.vehicle_heads]:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.normal_(head.weight, 0, 0.01)
            nn.init.zeros_(head.bias)
            # Begin by claiming that one cell in a hundred holds something two cells wide.
            head.bias.data[0] = -4.6
            head.bias.data[1:5] = 1.0

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the targets, and the vehicles where the net has heads for them."""
        fine = self.stem(images)
        return self.found_in(fine, self.middle(fine))

    def found_in(self, fine: Tensor, middle: Tensor) -> tuple[Tensor, ...]:
        """Return the same from the maps of the first layers, at strides 8 (48 channels) and 16 (96)."""
        deep = self.deep(middle)
        up = F.interpolate(self.deep_to_middle(deep), scale_factor=2.0, mode="nearest")
        middle = self.middle_mix(self.middle_side(middle) + up)
        fine = self.fine_mix(
            fine + F.interpolate(self.middle_to_fine(middle), scale_factor=2.0, mode="nearest")
        )
        levels = (fine, middle, self.deep_side(deep))
        targets = [
            head(tower(x)).flatten(2)
            for x, tower, head in zip(levels, self.target_towers, self.target_heads, strict=True)
        ]
        if not self.vehicle_heads:
            return (torch.cat(targets, 2),)
        vehicles = [
            head(tower(x)).flatten(2)
            for x, tower, head in zip(levels[1:], self.vehicle_towers, self.vehicle_heads, strict=True)
        ]
        return torch.cat(targets, 2), torch.cat(vehicles, 2)


class VehicleNet(nn.Module):
    """Images (B, 3, 128, 128), BGR 0..1, to raw scores of body (B, 7), color (B, 13) and side (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        trunk = DetectorNet()
        self.stem, self.middle, self.deep = trunk.stem, trunk.middle, trunk.deep
        self.color_side = Conv(48, 48, 2)
        self.drop = nn.Dropout(0.3)
        # Color needs the early features, before the trunk has learned to overlook it.
        self.type_head = nn.Linear(128, len(VEHICLE_TYPES))
        self.color_head = nn.Linear(48, len(COLORS))
        self.orientation_head = nn.Linear(128, len(ORIENTATIONS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores of body, color and side."""
        fine = self.stem(images)
        shape = self.drop(self.deep(self.middle(fine)).mean((2, 3)))
        paint = self.drop(self.color_side(fine).mean((2, 3)))
        return self.type_head(shape), self.color_head(paint), self.orientation_head(shape)


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """Return a copy of ``net`` for inference, every ``Conv``'s normalization folded into its convolution.

    Weights that were rounded for the training are rounded for good.
    """
    folded = copy.deepcopy(net).eval()
    for module in folded.modules():
        if isinstance(module, Conv):
            conv, norm = module[0], module[1]
            if isinstance(norm, nn.Identity):
                continue
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            module[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
            module[1] = nn.Identity()
    plain_weights(folded)
    return folded


def load_folded(net: nn.Module, weights: Weights) -> None:
    """Fill a net of ``Conv`` with weights whose batch normalization is folded: each becomes the identity."""
    state = net.state_dict()
    for name, module in net.named_modules():
        if isinstance(module, Conv):
            norm = module[1]
            assert isinstance(norm, nn.BatchNorm2d)
            state[f"{name}.1.weight"] = torch.full_like(state[f"{name}.1.weight"], (1 + norm.eps) ** 0.5)
            state[f"{name}.1.bias"] = torch.from_numpy(weights.pop(f"{name}.0.bias"))
            state[f"{name}.0.weight"] = torch.from_numpy(weights.pop(f"{name}.0.weight"))
    net.load_state_dict(state | {name: torch.from_numpy(value) for name, value in weights.items()})


def unfolded(net: nn.Module, weights: Weights, images: Iterator[Tensor], count: int) -> nn.Module:
    """Return ``net`` with ``weights`` whose normalizations are folded, put back by ``count`` batches."""
    load_folded(net, weights)
    restore_norms(net, images, count)
    return net


@torch.no_grad()
def restore_norms(net: nn.Module, images: Iterator[Tensor], count: int) -> None:
    """Give the identities of `load_folded` the statistics of ``count`` batches, undone by scale and shift."""
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        x = inputs[0].double()
        size = torch.tensor(float(x.numel() / x.shape[1]))
        moments = [x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), size]
        sums[norm] = [a + b for a, b in zip(sums[norm], moments, strict=True)] if norm in sums else moments

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    net.eval()
    for _ in range(count):
        net(next(images))
    for hook in hooks:
        hook.remove()
    for norm, (total, squares, size) in sums.items():
        mean = total / size
        variance = (squares / size - mean**2).clamp(min=1e-6)
        scale = norm.weight.double() / (1 + norm.eps) ** 0.5
        assert norm.running_mean is not None and norm.running_var is not None
        norm.bias.add_((scale * mean).float())
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
