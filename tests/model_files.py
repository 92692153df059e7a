"""Small model files for the tests of loading, and ways to alter them."""

import json
import zipfile

import h5py
import numpy as np
import tensorflow as tf

L = tf.keras.layers
X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
FORMATS = ("h5", "keras", "savedmodel")


def save(model, folder, kind):
    path = folder / {"h5": "model.h5", "keras": "model.keras", "savedmodel": "model"}[kind]
    model.save(path)
    return path


def small(*layers, name="small"):
    return tf.keras.Sequential([L.Input((6,)), *layers, L.Dense(2, activation="softmax")], name=name)


def edit_attribute(path, **attributes):
    with h5py.File(path, "r+") as file:
        for key, value in attributes.items():
            file.attrs[key] = value
    return path


def edit_config(path, change):
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(change(config) or config)
    return path


def rewrite_zip(path, **members):
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    content |= {name.replace("_json", ".json"): json.dumps(value) for name, value in members.items()}
    with zipfile.ZipFile(path, "w") as new:
        for name, value in content.items():
            new.writestr(name, value)
    return path


def marking_lambda(marker):
    """A Lambda layer whose function leaves a file behind when it is run."""
    return L.Lambda(eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"), name="trap")


class Doubling(L.Layer):
    """A layer that Keras does not have."""

    def call(self, x):
        return 2 * x
