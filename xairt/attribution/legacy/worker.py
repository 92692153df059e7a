"""Worker process of the legacy engines: iNNvestigate with eager execution off.

Stands alone: nothing of xairt is imported, and the syntax is that of Python 3.7, so that any
interpreter with tensorflow and innvestigate can run it. Requests come on standard input, replies go to
standard output: a JSON header of known length, then the named arrays as npy. Whatever libraries print
goes to standard error. The process ends when its standard input closes or its parent is gone.
"""

import io
import json
import os
import struct
import sys
import threading
import time

import numpy as np

LENGTH = struct.Struct("<Q")
PARENT_CHECK_SECONDS = 1.0


def send(stream, header, arrays=()):
    """Write one message: a JSON-able header and a sequence of arrays."""
    frames = [json.dumps(dict(header, n_arrays=len(arrays))).encode()] + [
        npy_bytes(array) for array in arrays
    ]
    for content in frames:
        stream.write(LENGTH.pack(len(content)))
        stream.write(content)
    stream.flush()


def npy_bytes(array):
    """Return an array in the npy format."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getbuffer()


def frame(stream):
    """Read one frame: its length, then its bytes; None at the end of the stream."""
    prefix = stream.read(LENGTH.size)
    if len(prefix) < LENGTH.size:
        return None
    return stream.read(LENGTH.unpack(prefix)[0])


def receive(stream):
    """Read one message; None at the end of the stream."""
    text = frame(stream)
    if text is None:
        return None
    header = json.loads(text.decode())
    frames = [frame(stream) for _ in range(header.pop("n_arrays"))]
    return header, [np.lib.format.read_array(io.BytesIO(f), allow_pickle=False) for f in frames]


def import_stack():
    """Import TensorFlow without eager execution, its Keras, and iNNvestigate."""
    import tensorflow as tf

    if int(tf.__version__.split(".")[0]) >= 2:
        tf.compat.v1.disable_eager_execution()
        keras = tf.keras
    else:
        import keras
    import innvestigate

    return tf, keras, innvestigate


def package_version(name):
    """Return the version of an installed package."""
    try:
        from importlib.metadata import version
    except ImportError:  # Python 3.7
        import pkg_resources

        return pkg_resources.get_distribution(name).version
    return version(name)


def build_model(keras, layers, weights):
    """Build a Keras model from layer descriptions.

    Each description has ``class``, ``config``, ``inputs`` (positions of earlier layers) and ``n_weights``;
    the weights stand in the order of the layers.
    """
    tensors, made, weights = [], [], list(weights)
    inputs = None
    for layer in layers:
        if layer["class"] == "Input":
            inputs = keras.layers.Input(shape=tuple(layer["config"]["shape"]))
            tensors.append(inputs)
            continue
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in layer["config"].items()}
        instance = getattr(keras.layers, layer["class"])(**config)
        arguments = [tensors[i] for i in layer["inputs"]]
        tensors.append(instance(arguments if len(arguments) > 1 else arguments[0]))
        made.append((instance, [weights.pop(0) for _ in range(layer["n_weights"])]))
    model = keras.models.Model(inputs=inputs, outputs=tensors[-1])
    for instance, values in made:
        if values:
            instance.set_weights(values)
    return model


class Analyzers:
    """The analyzers of this process, each in a graph and session of its own."""

    def __init__(self):
        self.tf, self.keras, self.innvestigate = import_stack()
        self.made = {}

    def versions(self):
        """Return the versions of the stack."""
        return {
            "python": "%d.%d.%d" % sys.version_info[:3],
            "tensorflow": self.tf.__version__,
            "keras": package_version("keras"),
            "innvestigate": package_version("innvestigate"),
        }

    def build(self, key, layers, weights, analyzer, parameters, seed):
        """Make an analyzer and keep it under `key`, in place of one that is there."""
        self.forget(key)
        v1 = self.tf.compat.v1
        graph = self.tf.Graph()
        session = v1.Session(graph=graph)
        with graph.as_default(), session.as_default():
            np.random.seed(seed)  # noqa: NPY002 - what old Keras draws its operation seeds from
            v1.set_random_seed(seed)
            backend = self.keras.backend if hasattr(self.keras.backend, "set_session") else v1.keras.backend
            backend.set_session(session)
            model = build_model(self.keras, layers, weights)
            parameters = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
            made = self.innvestigate.create_analyzer(
                analyzer, model, neuron_selection_mode="index", **parameters
            )
        self.made[key] = (graph, session, made)

    def analyze(self, key, x, indices):
        """Return the attribution of a batch; one output index per sample."""
        graph, session, made = self.made[key]
        with graph.as_default(), session.as_default():
            return np.asarray(made.analyze(x, neuron_selection=indices))

    def forget(self, key):
        """Drop an analyzer and free its session."""
        if key in self.made:
            self.made.pop(key)[1].close()


def answer(analyzers, header, arrays):
    """Carry out one request; return the reply's header and arrays."""
    request = header["request"]
    if request == "versions":
        return analyzers.versions(), []
    if request == "build":
        analyzers.build(
            header["key"], header["layers"], arrays, header["analyzer"], header["parameters"], header["seed"]
        )
        return {}, []
    if request == "analyze":
        return {}, [analyzers.analyze(header["key"], *arrays)]
    if request == "forget":
        analyzers.forget(header["key"])
        return {}, []
    raise ValueError("unknown request %r" % request)


def one_line(error):
    """Return an exception as one line of text."""
    return " ".join(("%s: %s" % (type(error).__name__, error)).split())


def end_with_parent():
    """End this process once its parent is gone, also in the middle of a computation."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main():
    """Answer requests until standard input closes."""
    end_with_parent()
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        analyzers = Analyzers()
    except Exception as error:
        send(replies, {"error": one_line(error)})
        return
    send(replies, {"ready": True})
    while True:
        message = receive(requests)
        if message is None:
            return
        try:
            header, arrays = answer(analyzers, *message)
        except Exception as error:
            header, arrays = {"error": one_line(error)}, []
        send(replies, header, arrays)


if __name__ == "__main__":
    main()
