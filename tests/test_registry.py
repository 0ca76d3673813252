"""Listing, finding and building models by name; the laziness of the package."""

import subprocess
import sys

import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics import registry
from keras_cnn_classics.applications import vgg


def python(code):
    """Runs code in a fresh interpreter; gives what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_listing():
    names = kcc.list_models()
    assert names[:3] == ["LeNet5", "LeNet", "AlexNet"]
    assert kcc.list_models("vgg1?") == ["VGG11", "VGG13", "VGG16", "VGG19"]
    assert kcc.list_models(family="AlexNet") == ["AlexNet", "AlexNetSingle", "AlexNetOWT"]
    assert kcc.list_models(year=1998) == ["LeNet5", "LeNet"]
    assert kcc.list_models("z*net*", year=(2013, 2014)) == ["ZFNet", "ZFNetWide"]
    with_weights = kcc.list_models("*vgg*1", pretrained=True) + kcc.list_models(
        "vgg16*", pretrained=True
    )
    assert with_weights == ["VGG11", "VGG16", "VGG16BN"]
    assert kcc.list_models("nothing") == []


def test_the_order_of_the_list_is_not_that_of_imports():
    code = """
import keras_cnn_classics as kcc
kcc.SENet154, kcc.EfficientNetB0
print(*kcc.list_models())
"""
    assert python(code).split() == kcc.list_models()


def test_every_public_builder_is_listed_under_its_name():
    for name in kcc.applications.__all__:
        builder = getattr(kcc, name)
        assert builder.spec.name == builder.__name__ == name
        assert kcc.get_builder(name.lower()) is builder
    assert sorted(kcc.applications.__all__) == sorted(kcc.list_models())


def test_unknown_names():
    with pytest.raises(ValueError, match=r"Did you mean .*VGG16.*Received: 'VGG-16'"):
        kcc.get_builder("VGG-16")
    with pytest.raises(ValueError, match=r"list_models.*Received: 'zzz'"):
        kcc.build("zzz")
    with pytest.raises(ValueError, match="Received: 3"):
        kcc.get_builder(3)
    with pytest.raises(AttributeError, match="ResNet9000"):
        kcc.ResNet9000  # noqa: B018


def test_build():
    model = kcc.build("lenet5", classes=3)
    assert model.output_shape == (None, 3)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="unique"):
        vgg.vgg.variant("vgg16", depths=vgg.D, params=1, macs=1)


def test_a_cell_of_a_notebook_can_be_run_again():
    python(
        "from keras_cnn_classics import list_models\n"
        "from keras_cnn_classics.applications._architecture import architecture\n"
        "from keras_cnn_classics.blocks.core import conv\n"
        "from keras_cnn_classics.blocks.heads import mlp\n"
        "for width in (16, 32):\n"
        "    @architecture(year=2026, paper='Mine', url='', head=mlp(), stride=1)\n"
        "    def mine(x, *, width): return conv(x, width, 3, name='conv')\n"
        "    Mine = mine.variant('Mine', params=0, macs=0, features=width, width=width)\n"
        "from keras_cnn_classics import get_builder\n"
        "assert get_builder('mine') is Mine and Mine.spec.features == 32\n"
    )


def test_threads_may_read_the_table_first():
    python(
        "import threading, keras_cnn_classics as kcc\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(len(kcc.list_models())))"
        " for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(found) == 4 and len(set(found)) == 1, found\n"
    )


@pytest.mark.parametrize("year", ["1998", (1998,), (1998, "2012")])
def test_years_that_are_none(year):
    with pytest.raises(ValueError, match="`year` must be a year, or the first and the last"):
        kcc.list_models(year=year)


def test_a_misspelt_column_of_a_table_fails_at_import():
    with pytest.raises(TypeError, match="dephts"):
        vgg.vgg.variant("VGG99", dephts=vgg.D, params=1, macs=1)
    assert "VGG99" not in kcc.list_models()


def test_nearest_model_with_weights():
    with pytest.raises(ValueError, match=r"VGG11, which has some. Received: weights='imagenet'"):
        kcc.VGG16C(weights="imagenet")
    with pytest.raises(ValueError, match=r"LeNet5: use .* weights file\. Received"):
        kcc.LeNet5(weights="imagenet")  # nothing that has some is for grey images


@pytest.mark.parametrize(
    ("given", "guess"),
    [
        ("ImageNet", "imagenet"),
        ("imagenet/timm_tv", "imagenet/timm-tv"),
        ("a1", "imagenet/timm-a1"),
        ("timm-a1", "imagenet/timm-a1"),
        ("imagnet", "imagenet"),
    ],
)
def test_misspelt_tags(given, guess):
    with pytest.raises(ValueError, match=f"Did you mean '{guess}'\\? Received: weights='{given}'"):
        kcc.ResNet50(weights=given)


def test_the_tags_that_there_are():
    with pytest.raises(
        ValueError, match=r"must be None, 'cifar10', .*Received: weights='imagenet'"
    ):
        kcc.ResNet20(weights="imagenet")
    with pytest.raises(ValueError, match=r"exists\. Received: weights=''"):
        kcc.ResNet50(weights="")


@pytest.mark.parametrize(("given", "ours"), [("pretrained", "weights"), ("num_classes", "classes")])
def test_what_other_packages_call_it(given, ours):
    with pytest.raises(TypeError, match=f"Did you mean `{ours}`"):
        kcc.ResNet50(**{given: True})


def test_importing_is_lazy():
    heavy = python(
        "import sys, keras_cnn_classics as kcc; dir(kcc);"
        "print([m for m in ('keras', 'tensorflow', 'numpy') if m in sys.modules])"
    )
    assert heavy == "[]"


def test_any_module_can_be_the_first():
    """Each is imported as in a fresh process, but that the parts of Keras are there already."""
    code = """
import importlib, pkgutil, sys
import keras, keras_cnn_classics
first = "keras_cnn_classics."
names = [one.name for one in pkgutil.walk_packages(keras_cnn_classics.__path__, first)]
for name in names:
    if name.endswith("__main__"):
        continue
    for loaded in list(sys.modules):
        if loaded == "keras" or loaded.startswith("keras_cnn_classics"):
            del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
print(len(names) > 100)
"""
    assert python(code) == "True"


def test_importing_is_light():
    """What takes time in an import is modules: these few, and the standard library's."""
    code = """
import sys
before = set(sys.modules)
import keras_cnn_classics
loaded = set(sys.modules) - before
ours = sorted(one for one in loaded if one.startswith("keras_cnn_classics"))
others = {one.partition(".")[0] for one in loaded} - sys.stdlib_module_names
print(*ours)
print(*sorted(others - {"keras_cnn_classics"}))
"""
    ours, others = python(code).splitlines()
    parts = ("", "._after_keras", "._version", ".applications", ".registry")
    assert ours.split() == ["keras_cnn_classics" + part for part in parts]
    assert others.split() == ["lazy_loader"]


def test_completion_lists_every_builder_and_subpackage():
    names = python("import keras_cnn_classics as kcc; print(*dir(kcc))").split()
    assert set(kcc.list_models()) <= set(names)
    assert {"list_models", "build", "layers", "data", "preprocessing", "__version__"} <= set(names)
    for name in names:
        assert getattr(kcc, name) is not None


@pytest.mark.parametrize("first", ["keras", "keras_cnn_classics"])
def test_a_saved_model_loads_whichever_import_comes_first(first, tmp_path):
    kcc.LeNet5().save(tmp_path / "lenet.keras")
    second = {"keras": "keras_cnn_classics", "keras_cnn_classics": "keras"}[first]
    loaded = python(
        f"import {first}, {second}\n"
        f"print(keras.saving.load_model({str(tmp_path / 'lenet.keras')!r}).count_params())"
    )
    assert loaded == "60840"


def test_registry_imports_nothing_of_the_package():
    with open(registry.__file__) as file:
        assert "keras_cnn_classics" not in file.read()
