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
# PyTorch compiles nothing and takes a third of the time, so most is checked there: what blocks
# compute on one network of each family, a training step on each kind of small form, files of those
# with layers of their own, and what all networks share on a few.
OF_BLOCKS = ("names", "data_formats", "aux")
FEW = ("lenet", "alexnet", "googlenet", "mobilenet_v2")
# TensorFlow has what computes for those that have, together, all layers that any network has, and a
# training step for those that have layers of their own. JAX, which compiles longest, has that step,
# and what else computes for the two smallest; what all share TensorFlow has for these.
COMPUTING = ("save_load", "gradients", "data_formats", "aux")
DISTINCT = ("lenet", "alexnet", "googlenet", "resnext", "stochastic_depth", "xception")
DISTINCT += ("efficientnet",)
TRAINED = ("cbam", "self_attention", "highway", "prelu_net", "deepface", "c3d")
BACKEND = keras.backend.backend()


def is_quick(name, check):
    if BACKEND == "torch":
        if check == "gradients":
            return name in FIRST_OF_KIND
        families = FAMILIES if check in OF_BLOCKS else FEW
        if check == "save_load":
            families = (*DISTINCT, *TRAINED)
    elif check in COMPUTING:
        families = DISTINCT if BACKEND == "tensorflow" else FEW[:2]
        if check == "gradients":
            families += TRAINED if BACKEND == "tensorflow" else (FEW[-1], *TRAINED)
    else:
        families = FEW[:2] if BACKEND == "tensorflow" else ()
    return name in map(FAMILIES.get, families)


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
    return BACKEND == "tensorflow" and (check != "features" or name in FAMILIES.values())


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


@pytest.mark.slow_elsewhere
@pytest.mark.parametrize("name", HARD)
def test_the_smallest_image_leaves_one_cell(name):
    builder = kcc.get_builder(name)
    shape = (builder.spec.min_size,) * 2 + (builder.spec.channels,)
    model = builder(include_top=False, weights=None, input_shape=shape)
    assert model.output_shape[1:3] == (1, 1)
