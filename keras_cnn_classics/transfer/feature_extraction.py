"""Feature extraction: a new head on a network that stays as it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data.recorded import Recorded, batches_of
from keras_cnn_classics.transfer import responses
from keras_cnn_classics.transfer.learner import Learner, images_of
from keras_cnn_classics.transfer.staged import Stage

_LOGGER = logging.getLogger("keras_cnn_classics")
_FEATURES = "features"


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class FeatureExtraction(Learner):
    """Trains a new head alone, on features of a trained network that does not change.

    The network is computed as in use, without dropout and with batch normalization as it is. Where
    the images are the same in every epoch, it is computed once for each of them: an epoch is then
    one of the head alone. The features are kept in a file for the next run, each under a digest of
    its image, in a file for the network's weights; so whatever the images, their preparation or
    their order are, none but the right ones are found. Augmented images go through the network in
    each epoch.

    Args:
        model: A trained Functional or Sequential model.
        classes: Number of classes of the new task; `None` if `task` is one of the model's own.
        task: Name of the new task.
        hidden: Units of a hidden layer in the new head. Defaults to `None`: none; Li and Hoiem's
            has 4,096.
        cache: Where features are kept: `True` for a file in Keras's folder, a folder or a file
            that ends in `.npz`; `None` for memory only; `False` to compute them in each epoch.
        decay: Coupled weight decay of kernels, in place of the layers' own and also in what is
            exported; see `training.add_l2`. Defaults to `0`: what the model's layers have.
        multi_label: Whether an image may have several of the new labels.
        old_task: Name of the old task of a model with one output; `None` for a model without a
            head.
        head: Name of the first layer of the old head, if it is not its last layer with weights.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of range, the model's head is not recognised, or, in
            `fit`, if the file named by `cache` has features of another network.

    References:
        - [Donahue et al., 2013](https://arxiv.org/abs/1310.1531)
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), section 4: two layers
    """

    def __init__(
        self,
        model: Any,
        classes: int | None = None,
        task: str = "new",
        *,
        hidden: int | None = None,
        cache: bool | str | os.PathLike[str] | None = True,
        decay: float = 0.0,
        multi_label: bool = False,
        old_task: str | None = "old",
        head: str | None = None,
        name: str | None = None,
    ) -> None:
        if cache is not None and not isinstance(cache, (bool, str, os.PathLike)):
            raise ValueError(f"`cache` must be True, False, None or a path. Received: {cache!r}")
        super().__init__(
            model,
            classes,
            task,
            old_task=old_task,
            head=head,
            hidden=hidden,
            multi_label=multi_label,
            decay=decay,
            name=name,
            cache=os.fspath(cache) if isinstance(cache, os.PathLike) else cache,
        )

    def _set_up(self, **options: Any) -> None:
        super()._set_up(**options)
        network = self.network
        own = {layer.name for layer in self.head_layers(self.task)}
        features = _before(network.output[self.task], own)
        olds = {task: network.output[task] for task in self.tasks if task != self.task}
        self._trunk = keras.Model(network.input, {**olds, _FEATURES: features}, name="trunk")
        self._head = keras.Model(features, network.output[self.task], name="head")
        self._recorded: Recorded | None = None

    def stages(self) -> Sequence[Stage]:
        return [Stage("new head", self.head_layers(self.task))]

    def call(self, inputs: Any, training: Any = None) -> Any:
        if isinstance(inputs, dict) and _FEATURES in inputs:
            return {self.task: self._head(inputs[_FEATURES], training=training)}
        found = dict(self._trunk(images_of(inputs), training=False))
        features = found.pop(_FEATURES)
        return {**found, self.task: self._head(features, training=training)}

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        size = kwargs.get("batch_size")
        if self._options["cache"] is False or kwargs.get("steps_per_epoch") is not None:
            return super()._fit_stage(x, y, **kwargs)
        if not self._record(x, size, kwargs.get("verbose")):
            _LOGGER.info("The images change or have no end: they go through the whole network.")
            return super()._fit_stage(x, y, **kwargs)
        validation = kwargs.get("validation_data")
        if validation is not None:
            given = validation if isinstance(validation, (tuple, list)) else (validation,)
            if self._record(given[0], size, kwargs.get("verbose")):
                found, labels, weights, _ = self._as_features(given[0], *given[1:2])
                weights = given[2] if len(given) > 2 else weights
                kwargs["validation_data"] = (found, labels, weights)[: 2 + (weights is not None)]
        features, labels, weights, batch = self._as_features(x, y)
        if weights is not None:
            kwargs["sample_weight"] = weights
        kwargs["batch_size"] = size or batch
        return super()._fit_stage(features, labels, **kwargs)

    def _record(self, x: Any, size: int | None, verbose: Any) -> bool:
        """Makes the features of all images known; says whether they will be found again."""
        key, path = responses.key_of(self._trunk), None
        features = keras.Model(
            self._trunk.input, {_FEATURES: self._trunk.output[_FEATURES]}, name="features"
        )
        if self._recorded is None:
            self._recorded = Recorded(responses.answering(features))
        if self._options["cache"] is not None:
            path = _file(self._options["cache"], self.network.name, key)
            if not len(self._recorded):
                responses.read(self._recorded, path, key, "features")
        before = len(self._recorded)
        same = responses.record(
            self._recorded, x, batch_size=size, verbose=verbose, what="features"
        )
        if same and path is not None and len(self._recorded) > before:
            responses.write(self._recorded, path, key)
        return same

    def _as_features(self, x: Any, y: Any = None) -> tuple[Any, Any, Any, int]:
        """The features, labels and weights of all images as arrays, and the size of a batch."""
        assert self._recorded is not None
        if hasattr(x, "shape"):
            return {_FEATURES: self._recorded.answers(np.asarray(x))[_FEATURES]}, y, None, 32
        parts = [
            (self._recorded.answers(images)[_FEATURES], *rest)
            for images, *rest in batches_of(x, None, 0)
        ]
        features, labels, *weights = (
            np.concatenate(columns) for columns in zip(*parts, strict=True)
        )
        return {_FEATURES: features}, labels, weights[0] if weights else None, len(parts[0][0])


def _before(output: Any, own: set[str]) -> Any:
    """The symbolic tensor that the layers of these names begin from."""
    tensor = output
    names = set(own)
    while names:
        layer, node, _ = tensor._keras_history
        names.discard(layer.name)
        tensor = layer._inbound_nodes[node].input_tensors[0]
    return tensor


def _file(cache: bool | str, name: str, key: str) -> Path:
    """The file for the features of a network."""
    if cache is True:
        from keras_cnn_classics.weights._download import cache_dir

        folder = cache_dir().parent / "features"
    elif str(cache).endswith(".npz"):
        return Path(str(cache))
    else:
        folder = Path(str(cache))
    return folder / f"{name}-{key}.npz"
