"""Controls: attributions that know nothing of the model, to compare the methods with."""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
from pydantic import Field

from xairt.attribution.blocks import BlockMethod, Explained, Setting
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError


def random(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Standard normal numbers keyed by (seed, sample): what no method should score below."""
    return lambda block: Explained(block.noise)


def input_itself(setting: Setting, parameters: Parameters) -> BlockMethod:
    """The input itself (Adebayo et al. 2018, arXiv:1810.03292)."""
    return lambda block: Explained(block.x)


class EdgeParameters(Parameters):
    """Parameters of the edge detector."""

    size: Literal[3, 5] = Field(3, description="side of the Sobel kernel, pixels")
    direction: Literal["both", "x", "y"] = Field(
        "both", description="slope along x (columns), y (rows), or the magnitude of both"
    )


_SOBEL = {3: ((1, 2, 1), (-1, 0, 1)), 5: ((1, 4, 6, 4, 1), (-1, -2, 0, 2, 1))}
"""Of each size the weights along an edge, and those across it."""


def edge(setting: Setting, parameters: EdgeParameters) -> BlockMethod:
    """Magnitude of the Sobel slopes of every channel: an edge detector (Adebayo et al. 2018, arXiv:1810.03292).

    Beyond the border the image is mirrored about its outermost pixels.
    """
    setting.network.require_one_input("edge", "use random or input as control")
    shape, half = setting.network.input_shape, parameters.size // 2
    if len(shape) != 3 or min(shape[:2]) <= half:
        raise MethodError(
            f"edge: samples of shape {shape} have no rows and columns, or not more than {half}: use random or input "
            "as control"
        )
    along, across = (np.array(weights) for weights in _SOBEL[parameters.size])
    kernels = {"x": np.outer(along, across), "y": np.outer(across, along)}
    chosen = list(kernels.values()) if parameters.direction == "both" else [kernels[parameters.direction]]
    filters = tf.constant(np.tile(np.stack(chosen, -1)[:, :, None], (1, 1, shape[-1], 1)), setting.dtype)

    def explain(block):
        mirrored = tf.pad(block.x, ((0, 0), (half, half), (half, half), (0, 0)), "REFLECT")
        slopes = tf.nn.depthwise_conv2d(mirrored, filters, (1, 1, 1, 1), "VALID")
        by_channel = tf.reshape(slopes, (-1, *shape, len(chosen)))
        return Explained(tf.sqrt(tf.reduce_sum(by_channel**2, axis=-1)))

    return explain
