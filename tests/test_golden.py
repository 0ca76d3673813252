"""Fingerprints kept in tests/golden. `pytest --update-golden` rewrites them; review the diff."""

import json
from pathlib import Path

import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.testing import contracts, golden
from tests.marks import slow_compiled

FOLDER = Path(__file__).parent / "golden"


FAMILIES = {kcc.get_builder(name).spec.family: name for name in reversed(kcc.list_models())}

# The fingerprints are TensorFlow's, so that to find them on PyTorch says more, and is faster; some
# are found on TensorFlow too.
AGAIN = ("lenet", "alexnet", "googlenet", "resnext", "efficientnet", "nasnet", "cbam", "c3d")


@pytest.mark.parametrize(
    "name",
    [
        name if name in map(FAMILIES.get, AGAIN) else slow_compiled(name)
        for name in kcc.list_models()
    ],
)
def test_golden(name, request):
    builder = kcc.get_builder(name)
    model = contracts.tiny(builder, classifier_activation=None)
    now = golden.fingerprint(model, contracts.images(model.input_shape[1:]))
    file = FOLDER / f"{name}.json"
    if request.config.getoption("--update-golden"):
        layers = json.dumps(now["layers"]).replace("], ", "],\n  ")
        rest = {key: value for key, value in now.items() if key != "layers"}
        lines = json.dumps(rest, indent=1).removeprefix("{\n")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'{{\n "layers": {layers},\n{lines}\n')
    then = json.loads(file.read_text())
    for key in ("layers", "params", "state"):
        assert now[key] == then[key]
    np.testing.assert_allclose(now["output"], then["output"], rtol=1e-3, atol=1e-4 * then["norm"])
    assert now["norm"] == pytest.approx(then["norm"], rel=1e-3)


def test_no_fingerprint_is_left_over():
    assert {file.stem for file in FOLDER.glob("*.json")} == set(kcc.list_models())
