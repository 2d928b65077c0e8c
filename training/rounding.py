"""Quantization-aware training: nets that compute with their weights as an INT8 model will hold them.

On an x86 processor without VNNI, ONNX Runtime adds pairs of products of an unsigned activation and a signed
weight in 16 bits, which 8-bit weights overflow. Weights of 7 bits, -64..64, cannot: 2 x 255 x 64 fits. A net
that was trained with its weights rounded so loses little by it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model_files import LARGEST


def rounded(weight: Tensor) -> Tensor:
    """``weight`` (outputs first) on the grid of its INT8 twin, symmetric per output; gradients pass through.

    The scale of a batch normalization folded into the weight later does not change the grid.
    """
    with torch.no_grad():
        flat = weight.detach().float().flatten(1)
        step = (flat.abs().amax(1) / LARGEST).clamp(min=1e-12).view(-1, *[1] * (weight.ndim - 1))
        on_grid = (weight / step).round().clamp(-LARGEST, LARGEST) * step
    return weight + (on_grid - weight).detach()


class RoundedConv2d(nn.Conv2d):
    """A convolution that computes with its weights rounded. Its parameters are those of the plain one."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` with the rounded weights."""
        return F.conv2d(
            x, rounded(self.weight), self.bias, self.stride, self.padding, self.dilation, self.groups
        )


def round_weights(convolutions: Iterable[nn.Module]) -> None:
    """Make plain convolutions compute with rounded weights from now on."""
    for convolution in convolutions:
        if type(convolution) is not nn.Conv2d or convolution.padding_mode != "zeros":
            raise TypeError(f"not a plain convolution: {convolution}")
        convolution.__class__ = RoundedConv2d


@torch.no_grad()
def plain_weights(net: nn.Module) -> None:
    """Make the weights of `round_weights` what they were rounded to, the convolutions plain, for export."""
    for module in net.modules():
        if isinstance(module, RoundedConv2d):
            module.weight.copy_(rounded(module.weight))
            module.__class__ = nn.Conv2d  # type: ignore[assignment]  # it was one, and is one again
