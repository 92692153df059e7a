"""Worker process of the engines that need an interpreter of their own: iNNvestigate, DeepLIFT, SHAP.

Stands alone: nothing of xairt is imported, and the syntax is that of Python 3.7, so that any
interpreter with tensorflow and the engine's package can run it: ``python worker.py ENGINE FOLDER``.
Requests come on standard input, replies go to standard output: a JSON header of known length, then the
named arrays as npy. Whatever libraries print goes to standard error, and temporary files go to the folder,
which is this process's own. The process ends when its standard input closes or its parent is gone.
"""

import atexit
import contextlib
import importlib
import io
import json
import os
import shutil
import struct
import sys
import tempfile
import threading
import time

import numpy as np

LENGTH = struct.Struct("<Q")
PARENT_CHECK_SECONDS = 1.0
PREDICTED_AT_ONCE = 4096

# --------------------------------------------------------------------------- messages


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


# --------------------------------------------------------------------------- the stack


def import_tensorflow(eager):
    """Import TensorFlow and its Keras; where TensorFlow is 2 and `eager` is false, as TensorFlow 1."""
    import tensorflow as tf

    if is_version_2(tf):
        if not eager:
            tf.compat.v1.disable_eager_execution()
        return tf, tf.keras
    import keras

    return tf, keras


def is_version_2(tf):
    """Return whether this TensorFlow is 2 or later."""
    return int(tf.__version__.split(".")[0]) >= 2


def package_version(name):
    """Return the version of an installed package."""
    try:
        from importlib.metadata import version
    except ImportError:  # Python 3.7
        import pkg_resources

        return pkg_resources.get_distribution(name).version
    return version(name)


def with_tuples(config):
    """Return a mapping with tuples where JSON had to make lists of them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}


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
        instance = getattr(keras.layers, layer["class"])(**with_tuples(layer["config"]))
        arguments = [tensors[i] for i in layer["inputs"]]
        tensors.append(instance(arguments if len(arguments) > 1 else arguments[0]))
        made.append((instance, [weights.pop(0) for _ in range(layer["n_weights"])]))
    model = keras.models.Model(inputs=inputs, outputs=tensors[-1])
    for instance, values in made:
        if values:
            instance.set_weights(values)
    return model


def by_index(indices):
    """Yield every output index with the rows of the samples that are explained at it."""
    for index in np.unique(indices):
        yield int(index), np.flatnonzero(indices == index)


# --------------------------------------------------------------------------- engines
# Each takes TensorFlow and Keras, imports its package, and returns a function that makes an explainer of
# (layers, weights, references, name, parameters): a function of (samples, output indices, seeds), one
# index and seed per sample, to attributions shaped like the samples.


def innvestigate_engine(tf, keras):
    """Return the maker of iNNvestigate's analyzers; their noise is seeded when they are made."""
    import innvestigate

    def make(layers, weights, references, name, parameters):
        model = build_model(keras, layers, weights)
        analyzer = innvestigate.create_analyzer(
            name, model, neuron_selection_mode="index", **with_tuples(parameters)
        )
        return lambda x, indices, seeds: analyzer.analyze(x, neuron_selection=indices)

    return make


def deeplift_engine(tf, keras):
    """Return the maker of DeepLIFT's explainers; `name` is its NonlinearMxtsMode."""
    converter = import_deeplift(tf)

    def make(layers, weights, references, name, parameters):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.h5")
            write_sequential(path, layers, weights)
            model = converter.convert_model_from_saved_files(path, nonlinear_mxts_mode=name, verbose=False)
        contributions = model.get_target_contribs_func(find_scores_layer_idx=0, target_layer_idx=-1)
        reuse_task_operations(tf.compat.v1, model.get_layers()[-1])

        def explain(x, indices, seeds):
            total = np.zeros(x.shape)
            for index, rows in by_index(indices):
                for reference in references:
                    total[rows] += contributions(
                        task_idx=index,
                        input_data_list=[x[rows]],
                        input_references_list=[reference],
                        batch_size=len(rows),
                        progress_update=None,
                    )
            return total / len(references)

        return explain

    return make


def import_deeplift(tf):
    """Import DeepLIFT's converter with TensorFlow 1's names, and let it use the current session."""
    if is_version_2(tf):
        sys.modules["tensorflow"] = tf.compat.v1
    try:
        converter = importlib.import_module("deeplift.conversion.kerasapi_conversion")
    finally:
        sys.modules["tensorflow"] = tf
    sys.modules["deeplift.util"].get_session = tf.compat.v1.get_default_session
    return converter


def write_sequential(path, layers, weights):
    """Write a chain of layer descriptions as Keras 2.0 wrote Sequential models."""
    import h5py

    weights = list(weights)
    source, layers = layers[0], layers[1:]
    entries = [
        {"class_name": layer["class"], "config": dict(layer["config"], name="layer_%d" % i)}
        for i, layer in enumerate(layers)
    ]
    entries[0]["config"]["batch_input_shape"] = [None, *source["config"]["shape"]]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": entries}).encode()
        for entry, layer in zip(entries, layers):  # noqa: B905 - strict came with Python 3.10
            group = file.create_group("model_weights/" + entry["config"]["name"])
            names = ["weight_%d" % k for k in range(layer["n_weights"])]
            group.attrs["weight_names"] = np.array(names, dtype="S")
            for name in names:
                group.create_dataset(name, data=weights.pop(0))


def reuse_task_operations(v1, layer):
    """Let a target layer choose its output by one operation; it would add new ones to the graph at each call."""
    chosen = v1.placeholder(layer.task_vector.dtype, layer.task_vector.shape)
    assign = v1.assign(layer.task_vector, chosen)

    def update_task_vector():
        values = np.zeros(layer.task_vector.shape.as_list())
        values[layer._get_task_index()] = layer._active
        v1.get_default_session().run(assign, {chosen: values})

    layer.update_task_vector = update_task_vector


def shap_engine(tf, keras):
    """Return the maker of SHAP's explainers; `name` is deep, gradient or kernel."""
    import shap

    kinds = {"deep": shap_deep, "gradient": shap_gradient, "kernel": shap_kernel}

    def make(layers, weights, references, name, parameters):
        model = build_model(keras, layers, weights)
        of_index = {}

        def explain(x, indices, seeds):
            found = np.zeros(x.shape)
            for index, rows in by_index(indices):
                if index not in of_index:
                    of_index[index] = kinds[name](
                        shap, one_output(keras, model, index), references, **parameters
                    )
                found[rows] = of_index[index](x[rows], seeds[rows])
            return found

        return explain

    return make


def one_output(keras, model, index):
    """Return the model of one of the outputs: SHAP would compute all of them."""
    n_outputs = int(model.outputs[0].shape[-1])
    if n_outputs == 1:
        return model
    choice = keras.layers.Dense(1, use_bias=False)
    chosen = keras.models.Model(inputs=model.inputs, outputs=choice(model.outputs[0]))
    choice.set_weights([np.eye(n_outputs)[:, index : index + 1]])
    return chosen


def shap_deep(shap, model, references):
    """Return DeepExplainer as a function of (samples, seeds), with `references` as background."""
    explainer = shap.DeepExplainer(model, references)
    execute = importlib.import_module("tensorflow.python.eager.execute")

    def explain(x, seeds):
        record_gradient = execute.record_gradient
        try:
            return shaped(explainer.shap_values(x, check_additivity=False), x)
        finally:
            execute.record_gradient = record_gradient  # left replaced where an operation has no rule

    return explain


def shap_gradient(shap, model, references, nsamples):
    """Return GradientExplainer as a function of (samples, seeds)."""
    explainer = shap.GradientExplainer(model, references)

    def explain(x, seeds):
        each = [
            explainer.shap_values(x[i : i + 1], nsamples=nsamples, rseed=int(seed))
            for i, seed in enumerate(seeds)
        ]
        return np.concatenate([shaped(values, x[:1]) for values in each])

    return explain


def shap_kernel(shap, model, references, nsamples):
    """Return KernelExplainer without regularisation as a function of (samples, seeds)."""
    shape = references.shape[1:]

    def predict(rows):
        rows = np.asarray(rows, references.dtype).reshape((-1, *shape))
        return model.predict(rows, batch_size=PREDICTED_AT_ONCE, verbose=0)[:, 0]

    explainer = shap.KernelExplainer(predict, references.reshape(len(references), -1))

    def explain(x, seeds):
        found = []
        for sample, seed in zip(x, seeds):  # noqa: B905 - strict came with Python 3.10
            np.random.seed(int(seed))  # noqa: NPY002 - what SHAP draws its coalitions from
            values = explainer.shap_values(
                sample.reshape(1, -1), nsamples=nsamples, l1_reg=False, silent=True
            )
            found.append(shaped(values, sample))
        return np.stack(found)

    return explain


def shaped(values, x):
    """Return SHAP values of one output, which come as a list or with an axis more, shaped like `x`."""
    return np.reshape(values[0] if isinstance(values, list) else values, x.shape)


ENGINES = {"innvestigate": innvestigate_engine, "deeplift": deeplift_engine, "shap": shap_engine}
EAGER = ("shap",)

# --------------------------------------------------------------------------- requests


class Explainers:
    """The explainers of this process, each in a graph and session of its own unless execution is eager."""

    def __init__(self, engine):
        self.engine = engine
        self.tf, self.keras = import_tensorflow(engine in EAGER)
        self.make = ENGINES[engine](self.tf, self.keras)
        self.made = {}

    def versions(self):
        """Return the versions of the stack."""
        return {
            "python": "%d.%d.%d" % sys.version_info[:3],
            "tensorflow": self.tf.__version__,
            "keras": package_version("keras"),
            self.engine: package_version(self.engine),
        }

    @contextlib.contextmanager
    def inside(self, session):
        """Make a session and its graph the current ones."""
        if session is None:
            yield
        else:
            with session.graph.as_default(), session.as_default():
                yield

    def start_session(self):
        """Return a session with a new graph; None where execution is eager."""
        v1 = self.tf.compat.v1
        return None if v1.executing_eagerly() else v1.Session(graph=self.tf.Graph())

    def build(self, key, layers, arrays, name, parameters, seed):
        """Make an explainer and keep it under `key`, in place of one that is there.

        The arrays are the weights, and last the references (m, ...).
        """
        self.forget(key)
        v1 = self.tf.compat.v1
        session = self.start_session()
        with self.inside(session):
            np.random.seed(seed)  # noqa: NPY002 - what old Keras draws its operation seeds from
            v1.set_random_seed(seed)
            if session is not None:
                own = hasattr(self.keras.backend, "set_session")
                (self.keras.backend if own else v1.keras.backend).set_session(session)
            self.made[key] = session, self.make(layers, arrays[:-1], arrays[-1], name, parameters)

    def analyze(self, key, x, indices, seeds):
        """Return the attribution of a batch; one output index and one seed per sample."""
        session, explain = self.made[key]
        with self.inside(session):
            return np.asarray(explain(x, indices, seeds), x.dtype)

    def forget(self, key):
        """Drop an explainer and free its session."""
        session, _ = self.made.pop(key, (None, None))
        if session is not None:
            session.close()


def answer(explainers, header, arrays):
    """Carry out one request; return the reply's header and arrays."""
    request = header.pop("request")
    if request == "versions":
        return explainers.versions(), []
    if request == "build":
        explainers.build(arrays=arrays, **header)
        return {}, []
    if request == "analyze":
        return {}, [explainers.analyze(header["key"], *arrays)]
    if request == "forget":
        explainers.forget(header["key"])
        return {}, []
    raise ValueError("unknown request %r" % request)


def one_line(error):
    """Return an exception as one line of text."""
    return " ".join(("%s: %s" % (type(error).__name__, error)).split())


def end_with_parent(folder):
    """End this process once its parent is gone, also in the middle of a computation; remove the folder then."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(engine, folder):
    """Answer requests until standard input closes."""
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    end_with_parent(folder)
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        explainers = Explainers(engine)
    except ImportError as error:
        send(replies, {"error": one_line(error), "missing": error.name})
        return
    except Exception as error:
        send(replies, {"error": one_line(error)})
        return
    send(replies, {"ready": True})
    while True:
        message = receive(requests)
        if message is None:
            return
        try:
            header, arrays = answer(explainers, *message)
        except Exception as error:
            header, arrays = {"error": one_line(error)}, []
        send(replies, header, arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
