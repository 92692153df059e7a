"""Which networks DeepLIFT 0.6.13 can take: chains of layers that its converter knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from xairt.attribution.legacy.export import Description
from xairt.errors import UnsupportedLayerError

WEIGHTED = ("Dense", "Conv1D", "Conv2D")
MAX_POOLING = ("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D")
LAYERS = (
    *("Input", *WEIGHTED, "Activation", "Flatten", *MAX_POOLING),
    *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D"),
)
"""Classes of layers that the package's converter knows."""

ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh")
"""Activations that it has rules for; its softmax has none."""

WITH_DATA_FORMAT = ("Conv2D", "MaxPooling2D", "AveragePooling2D")


def as_chain(layers: list[Description], reveal_cancel: bool) -> list[Description]:
    """Return the layers completed for DeepLIFT's converter, or refuse the one that it cannot take.

    The package checks little itself: dilations of 1-D convolutions it ignores, and behind max pooling its
    RevealCancel rule takes all contributions for zero.

    Parameters
    ----------
    layers : list of dict
        As from `export.describe`.
    reveal_cancel : bool
        Whether nonlinearities get the RevealCancel rule.

    Returns
    -------
    list of dict
        The same layers with the entries of ``config`` that the converter asks for.

    Raises
    ------
    UnsupportedLayerError
        If the network is no chain, does not end in a linear dense layer, or has a layer that the package
        does not know or computes wrongly.

    Examples
    --------
    >>> source = {"name": "x", "class": "Input", "config": {"shape": (4,)}, "inputs": []}
    >>> soft = {"name": "h", "class": "Activation", "config": {"activation": "gelu"}, "inputs": [0]}
    >>> as_chain([source, soft], reveal_cancel=False)
    Traceback (most recent call last):
    ...
    xairt.errors.UnsupportedLayerError: layer 'h' (Activation): engine 'deeplift' has no rule for the activation
    gelu: use engine='native'
    """
    axes, pooled = len(layers[0]["config"]["shape"]), False
    for position, layer in enumerate(layers):
        name, config = layer["class"], layer["config"]
        activation = config.get("activation", "linear")
        if layer["inputs"] != ([position - 1] if position else []):
            raise _refused(layer, "takes chains of layers only")
        if name not in LAYERS:
            raise _refused(layer, "does not know this class")
        if activation not in ACTIVATIONS:
            raise _refused(layer, f"has no rule for the activation {activation}")
        if name == "Dense" and axes > 1:
            raise _refused(layer, "takes dense layers of vectors only")
        if _special_convolution(config):
            raise _refused(layer, "has no dilated, grouped or causal convolutions")
        if reveal_cancel and pooled and name == "Activation":
            raise _refused(layer, "loses the contributions between max pooling and a nonlinearity")
        pooled = name in MAX_POOLING or (pooled and name not in WEIGHTED)
        axes = 1 if name == "Flatten" or name.startswith("Global") else axes
    if layers[-1]["class"] != "Dense" or layers[-1]["config"]["activation"] != "linear":
        raise _refused(layers[-1], "explains the outputs of a linear dense layer only")
    return [layer | {"config": _completed(layer)} for layer in layers]


def _special_convolution(config: dict[str, Any]) -> bool:
    dilated = np.any(np.not_equal(config.get("dilation_rate", 1), 1))
    return bool(dilated) or config.get("groups", 1) != 1 or config.get("padding") == "causal"


def _completed(layer: Description) -> dict[str, Any]:
    data_format = {"data_format": "channels_last"} if layer["class"] in WITH_DATA_FORMAT else {}
    return layer["config"] | data_format


def _refused(layer: Description, reason: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"layer '{layer['name']}' ({layer['class']}): engine 'deeplift' {reason}: use engine='native'"
    )
