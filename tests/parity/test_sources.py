"""The tables of published weights, against the packages that publish them."""

import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.weights import sources

timm = pytest.importorskip("timm", reason="compares with timm")
pytestmark = pytest.mark.parity

MEANS = {"torch": (0.485, 0.456, 0.406), "tf": (0.5, 0.5, 0.5), "none": (0.485, 0.456, 0.406)}
STDS = {"torch": (0.229, 0.224, 0.225), "tf": (0.5, 0.5, 0.5), "none": (0.229, 0.224, 0.225)}


def published(*publishers):
    return [
        pytest.param(model, source, id=f"{model}-{tag}")
        for model in sources.models()
        for tag, source in sources.of(model).items()
        if "/" in tag and source.origin in publishers
    ]


@pytest.mark.parametrize(("model", "source"), published("timm"))
def test_timm_knows_them(model, source):
    for one in (source, *source.variants):
        if one.top.hub:
            repository, _, _ = one.top.hub
            config = timm.get_pretrained_cfg(repository.removeprefix("timm/"))
            assert config.hf_hub_id in (repository, "timm/")
        else:
            config = timm.get_pretrained_cfg(f"legacy_{model.lower()}")
            assert config.url == one.top.url
        assert tuple(config.mean) == MEANS[one.preprocessing]
        assert tuple(config.std) == STDS[one.preprocessing]
        assert config.num_classes == one.classes
        assert (config.license or "apache-2.0").lower() == one.license.lower()
        sizes = {size[1] for size in (config.input_size, config.test_input_size) if size}
        assert kcc.get_builder(model).spec.input_size in sizes
