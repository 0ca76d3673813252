"""Every check of `testing.contracts` on every registered model."""

import keras
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.testing import contracts


def small_form(name):
    """What the small model is made of: variants of one trunk may differ in nothing else."""
    spec = kcc.get_builder(name).spec
    options = {**spec.config, **spec.tiny, "dropout": None}
    return spec.family, spec.aux_taps, repr(sorted(options.items()))


def named(check):
    return check.__name__.removeprefix("check_")


NAMES = kcc.list_models()
FIRST_OF_KIND = set({small_form(name): name for name in reversed(NAMES)}.values())
FAMILIES = {kcc.get_builder(name).spec.family: name for name in reversed(NAMES)}
# Checks of what blocks compute run on one network of each family, a training step on each kind of
# small form; the others are of what all networks share, and run on some.
OF_BLOCKS = ("names", "save_load", "data_formats", "aux")
# Elsewhere those that compute on the backend will do, for the networks that have, together, all
# layers that any has.
COMPUTING = ("save_load", "gradients", "data_formats", "aux")
DISTINCT = ("lenet", "alexnet", "googlenet", "resnet", "densenet", "resnext", "stochastic_depth")
DISTINCT += ("xception", "senet", "mobilenet_v2", "efficientnet")
# Of these a training step will do: they have layers of their own, which are tested everywhere.
TRAINED = ("cbam", "self_attention", "dpn", "highway", "prelu_net", "deepface", "c3d")
ELSEWHERE = keras.backend.backend() != "tensorflow"


def is_quick(name, check):
    if ELSEWHERE:
        families = DISTINCT + TRAINED if check == "gradients" else DISTINCT
        return check in COMPUTING and name in {FAMILIES[family] for family in families}
    if check == "gradients":
        return name in FIRST_OF_KIND
    return name in (FAMILIES.values() if check in OF_BLOCKS else map(FAMILIES.get, DISTINCT))


def pairs(checks, quick):
    return [
        pytest.param(
            name,
            check,
            id=f"{named(check)}-{name}",
            marks=() if quick(name, named(check)) else pytest.mark.slow,
        )
        for check in checks
        for name in NAMES
    ]


def is_quick_in_full(name, check):
    return not ELSEWHERE and (check != "features" or name in FAMILIES.values())


@pytest.mark.parametrize(("name", "check"), pairs(contracts.FULL, is_quick_in_full))
def test_full(name, check):
    check(kcc.get_builder(name))


@pytest.mark.parametrize(("name", "check"), pairs(contracts.SMALL, is_quick))
def test_small(name, check):
    check(kcc.get_builder(name))


# Networks with windows that must fit have a hard limit; the others' is a matter of sense.
HARD = [
    n for f in ("lenet", "alexnet", "zfnet", "overfeat", "vgg") for n in kcc.list_models(family=f)
]


@pytest.mark.parametrize("name", HARD)
def test_the_smallest_image_leaves_one_cell(name):
    builder = kcc.get_builder(name)
    shape = (builder.spec.min_size,) * 2 + (builder.spec.channels,)
    model = builder(include_top=False, weights=None, input_shape=shape)
    assert model.output_shape[1:3] == (1, 1)
