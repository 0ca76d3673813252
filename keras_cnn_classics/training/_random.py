"""The random state that training may draw from beside Keras's own."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np


def get_random() -> list[Any]:
    """The states of Python's generator, NumPy's old one and PyTorch's, as a file can hold them."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  it is what Keras shuffles by
    version, numbers, gauss = random.getstate()
    return [[kind, np.array(keys), *rest], [version, list(numbers), gauss], _torch_state()]


def set_random(state: list[Any]) -> None:
    """Brings the generators to states that `get_random` gave."""
    (kind, keys, *rest), (version, numbers, gauss), torch_state = state
    np.random.set_state((kind, keys, *rest))  # noqa: NPY002
    random.setstate((version, tuple(numbers), gauss))
    if torch_state is not None:
        import torch

        torch.set_rng_state(torch.from_numpy(torch_state))


def _torch_state() -> np.ndarray | None:
    """That of PyTorch, by which Keras shuffles arrays and drops units there."""
    if keras.backend.backend() != "torch":
        return None
    import torch

    state: np.ndarray = torch.get_rng_state().numpy()
    return state
