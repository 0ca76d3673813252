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
FULL, CHECKS = list(contracts.FULL), list(contracts.SMALL)
if keras.backend.backend() != "tensorflow":
    # One of each family will do there, and of the checks those that compute on the backend.
    NAMES = list({kcc.get_builder(name).spec.family: name for name in reversed(NAMES)}.values())
    computing = ("save_load", "gradients", "data_formats", "aux")
    CHECKS = [
        check if named(check) in computing else pytest.param(check, marks=pytest.mark.slow)
        for check in CHECKS
    ]
    FULL = [pytest.param(check, marks=pytest.mark.slow) for check in FULL]
FIRST = {small_form(name): name for name in reversed(NAMES)}.values()
SMALL = [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", FULL, ids=named)
def test_full(name, check):
    check(kcc.get_builder(name))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_small(name, check):
    check(kcc.get_builder(name))


# Networks with windows that must fit have a hard limit; the others' is a matter of sense.
HARD = [n for f in ("lenet", "alexnet", "zfnet", "vgg") for n in kcc.list_models(family=f)]


@pytest.mark.parametrize("name", HARD)
def test_the_smallest_image_leaves_one_cell(name):
    builder = kcc.get_builder(name)
    shape = (builder.spec.min_size,) * 2 + (builder.spec.channels,)
    model = builder(include_top=False, weights=None, input_shape=shape)
    assert model.output_shape[1:3] == (1, 1)
