"""Greedy layer-wise auto-encoders: what they compute, what they learn and what they leave alone."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics import training
from keras_cnn_classics.data.digits import load_digits
from keras_cnn_classics.training.pretraining import LayerAutoencoder
from tests.marks import slow_compiled

RNG = np.random.default_rng(2011)


def array(x):
    return keras.ops.convert_to_numpy(x)


def digits(count=256):
    return load_digits().train.pixels[:count, ::2, ::2].astype("float32") / 255  # 14 x 14


def network(pool=None):
    """Layers of all kinds, with activations of their own and as layers."""
    return keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(8, 3, activation="tanh", name="conv1"),
            pool or layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv2"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu2"),
            layers.AveragePooling2D(2, name="pool2"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(24, activation="sigmoid", name="hidden"),
            layers.Dense(10, activation="softmax", name="predictions"),
        ]
    )


def test_only_layers_without_weights_and_normalizations_are_part_of_the_code():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
        ]
    )
    found = LayerAutoencoder(model, "conv").behind.layers
    assert [layer.name for layer in found] == ["norm", "relu"]


@pytest.mark.slow_compiled
def test_the_errors_fall_and_only_what_learned_is_handed_over():
    images, model = digits(), network()
    before = {layer.name: layer.get_weights() for layer in model.layers}
    losses = training.pretrain(
        model, images, epochs=4, batch_size=32, optimizer=keras.optimizers.Adam(0.003), seed=1
    )
    assert list(losses) == ["conv1", "conv2", "hidden"]
    for name, values in losses.items():
        assert len(values) == 4
        assert values[-1] < 0.9 * values[0], name
    for layer in model.layers:
        same = all(map(np.array_equal, layer.get_weights(), before[layer.name]))
        assert same == (layer.name not in losses), layer.name
        assert layer.trainable
    # The classifier trains on it as on any other weights.
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(images[:32], np.arange(32) % 10, verbose=0)


def test_what_is_handed_over_is_what_was_trained(monkeypatch):
    made = []

    class Seen(LayerAutoencoder):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr("keras_cnn_classics.training.pretraining.LayerAutoencoder", Seen)
    images, model = digits(64), network()
    training.pretrain(model, images, which=["conv*"], epochs=1)
    assert [one.encoder.name for one in made] == ["conv1", "conv2"]
    for one in made:
        ours = model.get_layer(one.encoder.name)
        assert ours is not one.encoder
        for a, b in zip(ours.get_weights(), one.encoder.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    # The second one saw what the first had learned.
    below = keras.Model(model.inputs[0], model.get_layer("conv2").input)
    np.testing.assert_allclose(array(made[1].below(images)), array(below(images)), atol=1e-6)


def test_a_run_that_fails_changes_nothing():
    model = network()
    before = model.get_weights()

    class Stop(keras.optimizers.SGD):
        steps = 0

        def apply(self, *args, **kwargs):
            raise InterruptedError("no step")

    with pytest.raises(InterruptedError):
        training.pretrain(model, digits(32), optimizer=Stop())
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(layer.trainable for layer in model.layers)


def numpy_maxima(x, size, strides, padding):
    """Each window's maxima, one by one; the rest is zero. The batch and the channels are one."""
    kept = np.zeros_like(x)
    before = [0, 0]
    if padding == "same":
        before = [
            max((-(-n // s) - 1) * s + k - n, 0) // 2
            for n, k, s in zip(x.shape, size, strides, strict=True)
        ]
    counts = [
        -(-n // s) if padding == "same" else (n - k) // s + 1
        for n, k, s in zip(x.shape, size, strides, strict=True)
    ]
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * strides[0] - before[0], j * strides[1] - before[1]
            rows = slice(max(top, 0), top + size[0])
            columns = slice(max(left, 0), left + size[1])
            window = x[rows, columns]
            kept[rows, columns] = np.where(window == window.max(), window, kept[rows, columns])
    return kept


@pytest.mark.parametrize("data_format", ["channels_last", slow_compiled("channels_first")])
@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [(2, 2, "valid"), (3, 2, "valid"), (3, 2, "same"), (2, 3, "valid"), ((3, 2), (1, 2), "same")],
)
def test_only_maxima_reach_the_decoder(size, strides, padding, data_format):
    first = data_format == "channels_first"
    options = {"data_format": data_format}
    model = keras.Sequential(
        [
            keras.Input((1, 8, 9) if first else (8, 9, 1)),
            layers.Conv2D(1, 1, kernel_initializer="ones", name="conv", **options),
            layers.MaxPooling2D(size, strides, padding, **options),
        ]
    )
    x = RNG.normal(size=(2, 8, 9)).astype("float32")
    given = x[:, None] if first else x[..., None]
    # With the identity for a kernel the reconstruction is the code.
    got = array(LayerAutoencoder(model, "conv").predict(given, verbose=0)).reshape(x.shape)
    size, strides = ((n, n) if isinstance(n, int) else n for n in (size, strides))
    expected = [numpy_maxima(one, size, strides, padding) for one in x]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert (got == 0).any()


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation", "groups"),
    [
        ((3, 2), 1, "valid", 1, 1),
        (3, 2, "same", 1, 2),
        (2, 3, "valid", 1, 1),
        (3, 1, "same", 2, 1),
        (5, (2, 3), "valid", 1, 2),
    ],
)
def test_the_decoder_is_the_transpose(size, strides, padding, dilation, groups, data_format):
    """`<conv(x), y> = <x, transpose(y)>` for all x is what a transpose is; here x is each cell."""
    first = data_format == "channels_first"
    shape = (4, 7, 8) if first else (7, 8, 4)
    conv = layers.Conv2D(
        6,
        size,
        strides,
        padding,
        dilation_rate=dilation,
        groups=groups,
        use_bias=False,
        data_format=data_format,
        name="conv",
    )
    model = keras.Sequential([keras.Input(shape), conv])
    x = RNG.normal(size=shape).astype("float32")
    basis = np.eye(x.size, dtype="float32").reshape(-1, *shape)
    matrix = array(model(basis)).reshape(x.size, -1)
    autoencoder = LayerAutoencoder(model, "conv")
    bias = RNG.normal(size=4).astype("float32")
    autoencoder.decoder_bias.assign(bias)
    got = array(autoencoder.predict(x[None], verbose=0))[0]
    expected = (matrix @ (x.ravel() @ matrix)).reshape(shape)
    expected = expected + (bias[:, None, None] if first else bias)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_the_noise_sets_to_zero_and_the_target_has_none():
    model = keras.Sequential(
        [keras.Input((50,)), layers.Dense(50, kernel_initializer="identity", name="code")]
    )
    autoencoder = LayerAutoencoder(model, "code", noise=0.25, seed=0)
    x = np.full((200, 50), 2.0, "float32")
    y = array(autoencoder(x, training=True))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert abs((y == 0).mean() - 0.25) < 0.02
    (loss,) = autoencoder.losses
    assert array(loss) == pytest.approx(4 * (y == 0).mean(), rel=1e-5)
    np.testing.assert_array_equal(array(autoencoder(x, training=False)), x)


@pytest.mark.slow_compiled
def test_labels_of_a_data_set_are_ignored():
    batches = [(digits(32), np.zeros(32)), (digits(32), np.ones(32))]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return batches[i]

    losses = training.pretrain(network(), Batches(), which="conv1", epochs=1)
    assert list(losses) == ["conv1"]
    assert np.isfinite(losses["conv1"]).all()


@pytest.mark.slow_elsewhere
def test_a_network_of_the_package():
    model = kcc.LeNet(weights=None)
    images = RNG.uniform(size=(8, 28, 28, 1)).astype("float32")
    losses = training.pretrain(model, images, epochs=1)
    assert list(losses) == ["conv1", "conv2", "fc1"]


def test_frozen_layers_are_left_alone_and_others_that_cannot_learn_are_named(caplog):
    model = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(3, 3, name="frozen", trainable=False),
            layers.DepthwiseConv2D(3, name="apart"),
            layers.Conv2D(2, 3, name="free"),
        ]
    )
    before = model.get_layer("frozen").get_weights()[0]
    assert list(training.pretrain(model, digits(4), epochs=1)) == ["free"]
    np.testing.assert_array_equal(model.get_layer("frozen").get_weights()[0], before)
    assert caplog.messages == [
        "apart is a DepthwiseConv2D, which is not pretrained: it stays as it is."
    ]
    with pytest.raises(ValueError, match=r"not frozen. Received: which='frozen', of \['free'\]"):
        training.pretrain(model, digits(4), which="frozen")


def test_an_autoencoder_has_its_own_loss_and_no_file(tmp_path):
    model = LayerAutoencoder(network(), "conv1")
    for given in ("loss", "metrics"):
        with pytest.raises(ValueError, match=f"has its own loss .* Received: {given}"):
            model.compile("sgd", **{given: ["mae"]})
    model.compile("sgd", jit_compile=False)
    with pytest.raises(NotImplementedError, match="save that"):
        model.save(tmp_path / "model.keras")


def branched():
    image = keras.Input((4,))
    return keras.Model(image, layers.Add()([layers.Dense(4)(image), image]))


def twice():
    image, dense = keras.Input((4,)), layers.Dense(4)
    return keras.Model(image, dense(dense(image)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: training.pretrain(branched(), x), "needs a chain.*'add"),
        (lambda x: training.pretrain(twice(), x), "used twice"),
        (
            lambda x: training.pretrain(keras.Sequential([layers.Dense(2)]), x),
            "no graph of layers",
        ),
        (lambda x: training.pretrain(network(), x, which="fc*"), r"which='fc\*', of \['conv1'"),
        (lambda x: training.pretrain(network(), x, epochs=0), "`epochs` must be an integer"),
        (lambda x: training.pretrain(network(), x, noise=1), "`noise` must be"),
        (lambda x: training.pretrain(network(), x[:, 1:]), r"must be those that .* \(14, 14, 1\)"),
        (lambda x: LayerAutoencoder(network(), "pool1"), r"one of \['conv1', 'conv2'"),
        (
            lambda x: LayerAutoencoder(
                keras.Sequential([keras.Input((None, 8, 1)), layers.Conv2D(2, 3, name="c")]), "c"
            ),
            "fixed size",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(digits(4))
    assert "Received" in str(caught.value) or "no graph" in message
