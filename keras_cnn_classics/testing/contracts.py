"""What must be true of every builder, as functions `check_*(builder)`.

They run on any builder that has the signature of `registry.Builder` and a `ModelSpec`; a broken
promise raises `AssertionError` with a sentence about it. `check(builder)` runs them all.
`FULL` build the model as published, `SMALL` the same code with the options in `spec.tiny`.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.blocks import core
from keras_cnn_classics.inspection import count
from keras_cnn_classics.registry import Builder
from keras_cnn_classics.weights import deferred

CLASSES = 7


def check(builder: Builder) -> None:
    """Runs all checks on one builder."""
    for one in (*FULL, *SMALL):
        one(builder)


def image_shape(builder: Builder, channels: int | None = None) -> tuple[int, ...]:
    """The shape of the smallest image or clip that the model takes, in the global data format."""
    spec = builder.spec
    return core.image_shape(spec.min_size, channels or spec.channels, spec.frames)


def _rank(builder: Builder) -> int:
    """Axes of a feature map beside batch and channels: two, or three for clips."""
    return len(builder.spec.input_shape) - 1


def tiny(builder: Builder, **kwargs: Any) -> Any:
    """The builder's model with random weights, small enough to train a step on one core."""
    defaults = {
        "weights": None,
        "classes": CLASSES,
        "input_shape": None if "input_tensor" in kwargs else image_shape(builder),
    }
    return builder(**{**defaults, **builder.spec.tiny, **kwargs})


def images(shape: tuple[int, ...], n: int = 2, seed: int = 0) -> np.ndarray:
    """Rough random images of the scale that preprocessing gives."""
    return np.random.Generator(np.random.PCG64(seed)).normal(size=(n, *shape)).astype("float32")


# JAX compiles either the whole network once or every operation for every shape: five times slower.
_COMPILED = keras.backend.backend() == "jax"


def _run(model: Any, x: np.ndarray) -> Any:
    """The output in inference mode, in the structure of the model's output, as NumPy arrays."""
    if _COMPILED:
        return model.predict_on_batch(x)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def _same(a: np.ndarray, b: np.ndarray, what: str, tolerance: float = 1e-4) -> None:
    worst = float(np.max(np.abs(a - b)))
    scale = float(np.max(np.abs(a)))
    assert worst <= tolerance * max(scale, 1e-6), f"{what}: differ by {worst} of {scale}"


def _raises(kind: type[Exception], words: str, call: Any, **kwargs: Any) -> None:
    message = None
    try:
        call(**kwargs)
    except kind as error:
        message = str(error)
    assert message is not None, f"{kwargs}: accepted, where {kind.__name__} was expected"
    assert words in message, f"{kwargs}: the message lacks {words!r}: {message}"


@contextmanager
def _setting(get: Any, put: Any, value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def check_params(builder: Builder) -> None:
    """Parameters and multiply-adds of the model as published are those of the spec."""
    spec = builder.spec
    counted = count(deferred.build_empty(lambda: builder(weights=None)))
    assert counted.params == spec.params, f"{counted.params:,} parameters, not {spec.params:,}"
    assert not counted.uncounted, f"multiply-adds unknown for {counted.uncounted}"
    assert counted.macs == spec.macs, f"{counted.macs:,} multiply-adds, not {spec.macs:,}"


def check_features(builder: Builder) -> None:
    """Without the top, channels and stride of the feature map are those of the spec."""
    spec = builder.spec
    last = keras.config.image_data_format() == "channels_last"

    def features(**kwargs: Any) -> Any:
        return deferred.build_empty(lambda: builder(include_top=False, weights=None, **kwargs))

    model = None if spec.fixed_trunk else features()
    sides = []
    for side in (spec.input_size, spec.input_size + spec.stride):
        one = core.image_shape(side, spec.channels, spec.frames)
        shape = (model or features(input_shape=one)).compute_output_shape((1, *one))
        channels, *area = (shape[-1], *shape[1:-1]) if last else shape[1:]
        assert channels == spec.features, f"{channels} channels, not {spec.features}"
        assert area[-2] == area[-1], f"a square image gives a map of {area}"
        sides.append(area[-1])
    assert sides[1] == sides[0] + 1, f"{spec.stride} pixels more give {sides[1] - sides[0]} cells"


def check_signature(builder: Builder) -> None:
    """The signature starts as every builder's does, with the spec's defaults."""
    spec = builder.spec
    parameters = inspect.signature(builder).parameters
    expected = {
        "include_top": True,
        "weights": spec.default_weights,
        "input_tensor": None,
        "input_shape": None,
        "pooling": None,
        "classes": spec.classes,
        "classifier_activation": "softmax",
        "name": None,
        "aux": False,
        "prefix": "",
    }
    got = {p.name: p.default for p in list(parameters.values())[: len(expected)]}
    assert list(got.items()) == list(expected.items()), f"the signature starts with {got}"
    assert set(spec.config) <= set(parameters), f"options are missing: {set(parameters)}"


def check_docstring(builder: Builder) -> None:
    """The docstring has all sections and describes every argument."""
    text = builder.__doc__ or ""
    for section in ("Args:", "Returns:", "Raises:", "References:"):
        assert section in text, f"the docstring lacks {section}"
    for name in inspect.signature(builder).parameters:
        line = next((x for x in text.splitlines() if x.startswith(f"    {name}: ")), "")
        assert len(line) > len(name) + 10, f"the docstring does not describe `{name}`"
        assert not line.startswith(f"    {name}:  "), f"the docstring does not describe `{name}`"


def check_errors(builder: Builder) -> None:
    """Bad arguments are refused, and the message says what was received."""
    spec = builder.spec
    for bad in (
        {"weights": "no-such-set"},
        {"weights": 3},
        {"pooling": "median"},
        {"classes": 0},
        {"classes": "ten"},
        {"classifier_activation": "softmx"},
        {"input_shape": (64, 64)},
        {"input_shape": (spec.input_size, spec.input_size, 3, 1)},
        {"input_shape": "224"},
        {"input_shape": core.image_shape(spec.min_size - 1, spec.channels, spec.frames)},
        {"input_tensor": np.zeros((1, 64, 64, 3))},
        {"input_tensor": keras.Input((5,))},
        {"prefix": 3},
        {"include_top": "imagenet"},
        {"include_top": None},
        {"aux": 1},
    ):
        _raises(ValueError, "Received", builder, **{"weights": None, **bad})
    if not spec.aux_taps:
        _raises(ValueError, "Received", builder, weights=None, aux=True)
    if spec.frames:
        shape: Any = core.image_shape(spec.min_size, spec.channels, spec.frames - 1)
        _raises(ValueError, "Received", builder, weights=None, input_shape=shape)
    area, last = (None,) * _rank(builder), keras.config.image_data_format() == "channels_last"
    shape = (*area, spec.channels) if last else (spec.channels, *area)
    for include_top, fixed in ((True, spec.fixed_top), (False, spec.fixed_trunk)):
        if fixed:
            bad = {"include_top": include_top, "input_shape": shape}
            _raises(ValueError, "Received", builder, weights=None, **bad)
    if spec.default_weights is None:
        _raises(ValueError, "Received", builder, weights="imagenet")
    _raises(TypeError, "Did you mean `pooling`?", builder, weights=None, poolling="avg")


def check_pooling(builder: Builder) -> None:
    """`pooling` turns the feature map into one vector for each image."""
    x = images(image_shape(builder))
    last = keras.config.image_data_format() == "channels_last"
    rank = _rank(builder)
    axes = tuple(range(1, 1 + rank) if last else range(2, 2 + rank))
    plain = tiny(builder, include_top=False)
    features = _run(plain, x)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = tiny(builder, include_top=False, pooling=pooling)
        model.set_weights(plain.get_weights())
        _same(reduce(features, axis=axes), _run(model, x), f"pooling={pooling!r}")


def check_classes_and_activation(builder: Builder) -> None:
    """`classes` and `classifier_activation` reach the last layer."""
    x = images(image_shape(builder))
    scores = tiny(builder, classifier_activation=None)
    model = tiny(builder)
    model.set_weights(scores.get_weights())
    y, p = _run(scores, x), _run(model, x)
    assert y.shape == (2, CLASSES), f"{CLASSES} classes give the shape {y.shape}"
    softmax = np.exp(y - y.max(-1, keepdims=True))
    _same(softmax / softmax.sum(-1, keepdims=True), p, "the softmax of the scores")


def check_names(builder: Builder) -> None:
    """Names do not depend on what was built before; `prefix` changes all, `name` none."""
    first, second = tiny(builder), tiny(builder, name="other")
    names = [layer.name for layer in first.layers]
    assert names == [layer.name for layer in second.layers], "two builds, other layer names"
    assert first.name == builder.spec.name.lower(), f"the model is called {first.name}"
    assert second.name == "other", "`name` does not name the model"
    paths = [w.path for w in first.weights]
    assert paths == [w.path for w in second.weights], "two builds, other variable paths"


def check_prefix(builder: Builder) -> None:
    """Two networks of the kind fit in one Functional model, which can be saved."""
    shape = image_shape(builder)
    image = keras.Input(shape, name="photo")
    left = tiny(builder, input_tensor=image, prefix="left_")
    right = tiny(builder, input_tensor=image, prefix="right_")
    names = [layer.name for layer in left.layers]
    plain = [layer.name for layer in tiny(builder).layers]
    assert names[1:] == [f"left_{name}" for name in plain[1:]], f"prefixed names are {names}"
    both = keras.Model(image, [left.output, right.output])
    paths = [w.path for w in both.weights]
    assert len(set(paths)) == len(paths), "variables of two networks share paths"
    x = images(shape)
    _same(_run(left, x), _run(both, x)[0], "the left network in both")
    _same_after_saving(both, x)
    alone = [layer.name for layer in tiny(builder, prefix="solo_").layers]
    assert alone == [f"solo_{name}" for name in plain], f"prefixed names are {alone}"


def check_stacking(builder: Builder) -> None:
    """A second network of the kind can be built on what the first one gives."""
    shape = image_shape(builder)
    first = tiny(builder, include_top=False, pooling="avg", prefix="first_")
    x = keras.layers.Dense(math.prod(shape), name="between")(first.output)
    x = keras.layers.Reshape(shape, name="as_image")(x)
    second = tiny(builder, input_tensor=x, prefix="second_")
    names = [layer.name for layer in second.layers]
    assert len(set(names)) == len(names), f"names are not unique: {names}"
    own = [name for name in names if name.startswith("second_")]
    plain = [layer.name for layer in tiny(builder).layers[1:]]
    assert own == [f"second_{name}" for name in plain], f"prefixed names are {own}"
    _same_after_saving(second, images(shape))


def check_input_tensor(builder: Builder) -> None:
    """The model can be built on a tensor of the caller's, an input or a layer's output."""
    photo = keras.Input(image_shape(builder), name="photo")
    assert tiny(builder, input_tensor=photo).inputs[0] is photo, "the input is not the caller's"
    scaled = keras.layers.Rescaling(2.0, name="twice")(photo)
    model = tiny(builder, input_tensor=scaled)
    plain = tiny(builder)
    plain.set_weights(model.get_weights())
    x = images(image_shape(builder))
    _same(_run(plain, 2 * x), _run(model, x), "a model on a layer's output")


def _same_after_saving(model: Any, x: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = keras.saving.load_model(path)
    before, after = (keras.tree.flatten(_run(one, x)) for one in (model, again))
    for a, b in zip(before, after, strict=True):
        _same(a, b, "a saved and loaded model", 1e-6)


def check_save_load(builder: Builder) -> None:
    """`.keras` and `.weights.h5` files load without custom objects and compute the same."""
    model = tiny(builder)
    x = images(image_shape(builder))
    _same_after_saving(model, x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        again = tiny(builder, weights=path)
    _same(_run(model, x), _run(again, x), "a model built with weights=path", 1e-6)


def check_config(builder: Builder) -> None:
    """A model made from the config has the same layers, shapes and weights."""
    model = tiny(builder)
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert again.get_config() == model.get_config(), "the config changes on the way"
    x = images(image_shape(builder))
    _same(_run(model, x), _run(again, x), "a model from a config", 1e-6)


class _Gradient(keras.optimizers.Optimizer):
    """Puts each weight's gradient in its place: a gradient check for every backend."""

    def __init__(self) -> None:
        super().__init__(learning_rate=1.0, name="gradient")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign(variable, gradient)


def check_gradients(builder: Builder) -> None:
    """Every trainable weight gets a finite gradient that is not zero throughout."""
    keras.utils.set_random_seed(0)
    model = tiny(builder, classifier_activation=None)
    for weight in model.trainable_weights:
        # A scale that starts at zero lets no gradient through to what it scales.
        if weight.name == "gamma" and not np.any(keras.ops.convert_to_numpy(weight)):
            weight.assign(np.ones(weight.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(_Gradient(), loss, jit_compile=_COMPILED)
    model.train_on_batch(images(image_shape(builder), n=8), np.arange(8) % CLASSES)
    for weight in model.trainable_weights:
        gradient = keras.ops.convert_to_numpy(weight)
        assert np.isfinite(gradient).all(), f"the gradient of {weight.path} is not finite"
        assert np.any(gradient), f"the gradient of {weight.path} is zero"


def check_mixed_precision(builder: Builder) -> None:
    """In mixed precision the body computes in 16 bits; weights and output are float32."""
    # TensorFlow has no maximum of clips in float16 on a CPU.
    half = "bfloat16" if builder.spec.frames else "float16"
    get, put = keras.config.dtype_policy, keras.config.set_dtype_policy
    full = tiny(builder, classifier_activation=None)
    with _setting(get, put, f"mixed_{half}"):
        model = tiny(builder, classifier_activation=None)
    bodies = {layer.compute_dtype for layer in model.layers[1:] if layer.weights}
    assert half in bodies, f"no layer computes in {half}"
    assert model.output.dtype == "float32", f"the output is {model.output.dtype}"
    assert all(w.dtype == "float32" for w in model.weights), "some weights are not float32"
    model.set_weights(full.get_weights())
    x = images(image_shape(builder))
    _same(_run(full, x), _run(model, x), f"{half} and float32", 0.05)


def check_data_formats(builder: Builder) -> None:
    """The same weights give the same answers in both data formats."""
    get, put = keras.config.image_data_format, keras.config.set_image_data_format
    results: list[np.ndarray] = []
    weights = None
    with _setting(get, put, "channels_first"):
        x = images(image_shape(builder))
    for layout in ("channels_last", "channels_first"):
        with _setting(get, put, layout):
            model = tiny(builder, classifier_activation=None)
            if weights is None:
                weights = model.get_weights()
            model.set_weights(weights)
            results.append(_run(model, x if layout == "channels_first" else np.moveaxis(x, 1, -1)))
    _same(results[0], results[1], "channels_last and channels_first")


def check_channels(builder: Builder) -> None:
    """Grey-scale and multi-band images can be taken."""
    for channels in (1, 3, 4):
        shape = image_shape(builder, channels)
        y = _run(tiny(builder, input_shape=shape), images(shape))
        assert y.shape == (2, CLASSES), f"{channels} channels give {y.shape}"


def check_aux(builder: Builder) -> None:
    """`aux=True` adds one named output for each auxiliary classifier, and its gradient."""
    spec = builder.spec
    if not spec.aux_taps:
        return
    shape = core.image_shape(max(spec.min_size, spec.aux_min_size), spec.channels)
    keras.utils.set_random_seed(0)
    model = tiny(builder, aux=True, classifier_activation=None, input_shape=shape)
    names = ["predictions", *(f"aux{i}" for i in range(1, len(spec.aux_taps) + 1))]
    assert sorted(model.output) == sorted(names), f"the outputs are {sorted(model.output)}"
    plain = [layer.name for layer in tiny(builder).layers]
    assert not [name for name in plain if name.startswith("aux")], "aux layers without aux=True"
    _same_after_saving(model, images(shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for name in names[1:]:
        before = model.get_weights()
        branch = keras.Model(model.input, model.output[name])
        branch.compile(_Gradient(), loss, jit_compile=_COMPILED)
        branch.train_on_batch(images(shape, n=8), np.arange(8) % CLASSES)
        first = keras.ops.convert_to_numpy(branch.trainable_weights[0])
        assert np.isfinite(first).all(), f"the gradient of {name} is not finite"
        assert np.any(first), f"the gradient of {name} does not reach the trunk"
        model.set_weights(before)


FULL = (check_params, check_features, check_signature, check_docstring, check_errors)
SMALL = (
    check_pooling,
    check_classes_and_activation,
    check_names,
    check_prefix,
    check_stacking,
    check_input_tensor,
    check_save_load,
    check_config,
    check_gradients,
    check_mixed_precision,
    check_data_formats,
    check_channels,
    check_aux,
)
