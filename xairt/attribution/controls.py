"""Controls: attributions that know nothing of the model, to compare the methods with."""

from __future__ import annotations

import tensorflow as tf

from xairt.attribution.blocks import BlockMethod, Explained, Setting
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError


def random(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Standard normal numbers keyed by (seed, sample): what no method should score below."""
    return lambda block: Explained(block.noise)


def input_itself(setting: Setting, parameters: Parameters) -> BlockMethod:
    """The input itself (Adebayo et al. 2018, arXiv:1810.03292)."""
    return lambda block: Explained(block.x)


def edge(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Sobel magnitude of every channel: an edge detector (Adebayo et al. 2018, arXiv:1810.03292)."""
    shape = setting.network.input_shape
    if len(shape) != 3:
        raise MethodError(
            f"edge: samples of shape {shape} have no rows and columns: use random or input as control"
        )

    def explain(block):
        # in float32: the operation knows no other precision
        slopes = tf.image.sobel_edges(tf.cast(block.x, tf.float32))
        return Explained(tf.cast(tf.sqrt(tf.reduce_sum(slopes**2, axis=-1)), block.x.dtype))

    return explain
