"""Screening of model files for code, before anything of them reaches Keras.

The screen is an allow-list: classes and functions of Keras that are known to hold nothing but numbers pass,
classes the caller supplies in ``custom_objects`` pass, everything else is reported. It looks at every
mapping in the stored configuration, so nested models and wrapped layers are covered.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xairt.models.support import LAYERS


@dataclass(frozen=True)
class Finding:
    """Something in a model file that is not known to be harmless.

    Attributes
    ----------
    layer : str
        Name of the layer (or graph function) that holds it.
    class_name : str
        Name of the class, function or operation.
    reason : str
        What is wrong with it.
    runs_code : bool
        True if loading or using the file could execute code chosen by its author; False for a class that
        is merely unknown, which Keras would refuse too.
    """

    layer: str
    class_name: str
    reason: str
    runs_code: bool

    def __str__(self) -> str:
        return f"layer {self.layer!r} ({self.class_name}) {self.reason}"


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


SAFE_LAYERS = frozenset(LAYERS) | _words(
    "LocallyConnected1D LocallyConnected2D EinsumDense Embedding",
    "RNN StackedRNNCells SimpleRNN SimpleRNNCell LSTM LSTMV1 LSTMV2 LSTMCell LSTMCellV1 LSTMCellV2 GRU GRUV1",
    "GRUV2 GRUCell GRUCellV1 GRUCellV2 CuDNNLSTM CuDNNGRU ConvLSTM1D ConvLSTM2D ConvLSTM3D",
    "Bidirectional TimeDistributed Wrapper Masking Identity Layer",
    "Multiply Subtract Maximum Minimum Dot",
    "LayerNormalization GroupNormalization UnitNormalization SyncBatchNormalization Normalization",
    "Attention AdditiveAttention MultiHeadAttention",
    "Rescaling Resizing CenterCrop CategoryEncoding Discretization Hashing HashedCrossing RandomCrop",
    "RandomFlip RandomRotation RandomTranslation RandomZoom RandomBrightness RandomContrast",
    "RandomHeight RandomWidth",
)
"""Layer classes of Keras that hold numbers only."""

_OPERATION = "calls a TensorFlow function that the file names"
_FUNCTION = "holds Python code"
_FILES = "can read files"
UNSAFE_LAYERS: dict[str, str] = {
    "Lambda": _FUNCTION,
    "ResidualWrapper": _FUNCTION,
    "DropoutWrapper": _FUNCTION,
    "__lambda__": _FUNCTION,
    **dict.fromkeys(("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod"), _OPERATION),
    **dict.fromkeys(("InstanceMethod", "InstanceProperty"), _OPERATION),
    **dict.fromkeys(("StringLookup", "IntegerLookup", "TextVectorization"), _FILES),
    **dict.fromkeys(("DenseFeatures", "SequenceFeatures", "LinearModel", "WideDeepModel"), _FILES),
}
"""Classes of Keras whose configuration can hold code or name files."""

_INITIALIZERS = _words(
    "Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling Orthogonal Identity",
    "GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform",
)
_VERSION_2 = frozenset(f"{name}V2" for name in _INITIALIZERS)
_INITIALIZER_NAMES = (_INITIALIZERS | _VERSION_2) | _words(
    "zero zeros one ones constant normal random_normal uniform random_uniform truncated_normal",
    "variance_scaling orthogonal identity glorot_normal glorot_uniform he_normal he_uniform",
    "lecun_normal lecun_uniform",
)
_REGULARIZER_NAMES = _words("L1 L2 L1L2 OrthogonalRegularizer l1 l2 l1_l2 orthogonal_regularizer")
_CONSTRAINT_NAMES = _words(
    "MaxNorm NonNeg UnitNorm MinMaxNorm RadialConstraint max_norm non_neg unit_norm min_max_norm",
    "radial_constraint maxnorm nonneg unitnorm",
)
ACTIVATION_NAMES = _words(
    "linear relu relu6 elu selu gelu silu swish mish tanh sigmoid hard_sigmoid softmax log_softmax softplus",
    "softsign exponential leaky_relu ReLU LeakyReLU ELU PReLU Softmax ThresholdedReLU",
)
"""Activation functions and activation layers of Keras."""

_STRUCTURE = _words(
    "TensorShape TypeSpec InputSpec __tuple__ __ellipsis__ __bytes__ __numpy__ __tensor__ __keras_tensor__",
    "Policy PolicyV1 DTypePolicy",
)
_SAFE_CLASSES = (
    SAFE_LAYERS | _INITIALIZER_NAMES | _REGULARIZER_NAMES | _CONSTRAINT_NAMES | ACTIVATION_NAMES | _STRUCTURE
)
_NAMED = {
    "activation": ACTIVATION_NAMES,
    "initializer": _INITIALIZER_NAMES,
    "regularizer": _REGULARIZER_NAMES,
    "constraint": _CONSTRAINT_NAMES,
}


def _is_keras(module: str) -> bool:
    return module == "keras" or module.startswith("keras.")


def _object_finding(item: Mapping[str, Any], layer: str, known: Collection[str]) -> Finding | None:
    """Judge one stored object: a mapping with a class name, a module, or both."""
    name, module = item.get("class_name"), item.get("module")
    function = str(item.get("config")) if name == "function" else None
    label = str(function or name or module)
    if label in known or (function is None and str(item.get("registered_name")) in known):
        return None
    if isinstance(module, str) and not _is_keras(module) and not (function and module == "builtins"):
        reason = f"is imported from the module {module!r} that the file names, unless custom_objects has it"
        return Finding(layer, label, reason, True)
    if name == "function":
        if function in ACTIVATION_NAMES:
            return None
        if module in (None, "builtins") and function.isidentifier() and not hasattr(builtins, function):
            return Finding(layer, function, "is a function that Keras does not have", False)
        return Finding(layer, label, "is a function that the file names for import", True)
    if not isinstance(name, str) or name in _SAFE_CLASSES:
        return None
    if name in UNSAFE_LAYERS or isinstance(module, str):
        reason = UNSAFE_LAYERS.get(name, "is a part of Keras that is not known to be harmless")
        return Finding(layer, name, reason, True)
    return Finding(layer, name, "is a class that Keras does not have", False)


def _name_finding(key: str, value: Any, layer: str, known: Collection[str]) -> Finding | None:
    """Judge an activation, initializer, regularizer or constraint that is given by name."""
    role = key.rsplit("_", 1)[-1]
    if role not in _NAMED or not isinstance(value, str) or value in _NAMED[role] or value in known:
        return None
    if value.isidentifier():
        return Finding(layer, value, f"is not among the {role}s of Keras", False)
    return Finding(layer, value, f"is imported as the {key} of the layer", True)


def _findings(value: Any, layer: str, known: Collection[str]) -> Iterator[Finding]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _findings(item, layer, known)
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("class_name"), str):
        config = value.get("config")
        own = config.get("name") if isinstance(config, Mapping) else None
        layer = next((name for name in (own, value.get("name")) if isinstance(name, str)), layer)
    found = _object_finding(value, layer, known) if {"class_name", "module"} & set(value) else None
    if found:
        yield found
        return
    for key, item in value.items():
        named = _name_finding(str(key), item, layer, known)
        if named:
            yield named
        yield from _findings(item, layer, known)


def screen_config(config: Any, known: Collection[str] = ()) -> tuple[Finding, ...]:
    """List what in a stored model configuration is not known to be harmless.

    Parameters
    ----------
    config : mapping or list
        Decoded JSON of the model.
    known : collection of str
        Names of classes and functions that the caller supplies (``custom_objects``).

    Returns
    -------
    tuple of Finding
        In the order of the layers; empty for a model made of the known layers of Keras.

    Examples
    --------
    >>> lam = {"class_name": "Lambda", "config": {"name": "scale", "function": ["4wEAAA==", None, None]}}
    >>> print(*screen_config({"class_name": "Sequential", "config": {"layers": [lam]}}))
    layer 'scale' (Lambda) holds Python code
    """
    unique = dict.fromkeys(_findings(config, "model", frozenset(known)))
    return tuple(unique)


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping inside a decoded JSON value, outermost first."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from mappings(item)


def match_custom_objects(config: Any, custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's classes and functions under every name a stored configuration uses for them.

    Keras stores a class registered as ``package>Name``; the caller passes it as ``Name``.

    Examples
    --------
    >>> match_custom_objects({"class_name": "mine>Blur", "config": {}}, {"Blur": object})
    {'Blur': <class 'object'>, 'mine>Blur': <class 'object'>}
    """
    matched = dict(custom_objects)
    for item in mappings(config):
        for name in (item.get("class_name"), item.get("registered_name")):
            if isinstance(name, str) and name.rpartition(">")[2] in custom_objects:
                matched.setdefault(name, custom_objects[name.rpartition(">")[2]])
    return matched


STATEFUL_OPERATIONS = _words(
    "VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp VarIsInitializedOp",
    "DisableCopyOnRead ResourceGather ResourceScatterAdd ResourceApplyGradientDescent ResourceApplyAdam",
    "StatefulPartitionedCall Placeholder While If Case Assert",
    "RandomUniform RandomUniformInt RandomStandardNormal TruncatedNormal RandomShuffle Multinomial",
    "RngReadAndSkip StatefulStandardNormalV2 StatefulUniform StatefulUniformInt",
    "CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3",
)
"""Operations with state that only touch the variables and random numbers of the model."""

_CHECKPOINT_OPERATIONS = _words("SaveV2 RestoreV2 MergeV2Checkpoints ShardedFilename")
_OUTSIDE = re.compile("File|PyFunc|Dataset|Iterator|Reader|Record|Remap|Debug")


@dataclass(frozen=True)
class Operation:
    """One operation of a stored graph: its name, the function that holds it, whether the saver owns it."""

    name: str
    function: str
    in_saver: bool = False


def screen_operations(
    operations: Iterable[Operation], is_stateful: Callable[[str], bool | None]
) -> tuple[Finding, ...]:
    """List the operations of a stored graph that can reach outside the model.

    Parameters
    ----------
    operations : iterable of Operation
        Every operation of the graph and of its functions.
    is_stateful : callable
        Tells whether TensorFlow declares an operation stateful; None for an operation it does not have.

    Examples
    --------
    >>> ops = [Operation("MatMul", "call"), Operation("WriteFile", "call")]
    >>> print(*screen_operations(ops, {"MatMul": False, "WriteFile": True}.get))
    layer 'call' (WriteFile) is an operation that can reach files or code outside the model
    """
    found = {}
    for operation in operations:
        name = operation.name
        if name in STATEFUL_OPERATIONS or (operation.in_saver and name in _CHECKPOINT_OPERATIONS):
            continue
        if is_stateful(name) is False and not _OUTSIDE.search(name):
            continue
        reason = "is an operation that can reach files or code outside the model"
        found.setdefault(name, Finding(operation.function, name, reason, True))
    return tuple(found.values())


def code_refusal(findings: Iterable[Finding]) -> str:
    """Return one line on the code that findings report, with the remedy; empty if they report none."""
    code = [finding for finding in findings if finding.runs_code]
    if not code:
        return ""
    more = f" (and {len(code) - 1} more)" if len(code) > 1 else ""
    return f"{code[0]}{more}, so it could execute code; pass trust_code=True if you trust its author"


def unknown_refusal(findings: Iterable[Finding]) -> str:
    """Return one line on the unknown classes that findings report, with the remedy; empty if none."""
    unknown = [finding for finding in findings if not finding.runs_code]
    if not unknown:
        return ""
    names = ", ".join(f"{name!r}: ..." for name in dict.fromkeys(finding.class_name for finding in unknown))
    return f"{unknown[0]}; pass custom_objects={{{names}}}"
