"""Feature extraction: a new head on a network that stays as it is."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data.batches.recorded import ChangingError, Recorded, digests
from keras_cnn_classics.transfer import responses
from keras_cnn_classics.transfer.learner import Learner, augmenting, check_labels, images_of
from keras_cnn_classics.transfer.staged import Stage

_LOGGER = logging.getLogger("keras_cnn_classics")
_FEATURES = "__features__"  # no name of a task
_LIMIT = 4 * 10**9  # bytes


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class FeatureExtraction(Learner):
    """Trains a new head alone, on features of a trained network that does not change.

    The network is computed as in use, without dropout and with batch normalization as it is. Where
    the images are the same in every epoch, it is computed once for each of them: an epoch is then
    one of the head alone, in which each image comes, also those that the data leave out by turns as
    `drop_remainder` does. Augmented images go through the network in each epoch.

    The features are kept in a file for the next run, each under a digest of its image, in one file
    for a network's layers and weights; so whatever the images, their preparation or their order
    are, none but the right ones are found. The file is written anew when there are new images. When
    it would be larger than 4 GB, only the images of the present data stay in it; of the files in
    Keras's folder, the oldest are deleted when all are larger than that.

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
            `fit`, if `cache` is no path for features or the file has those of another network.

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
        trunk = keras.Model(network.input, {_FEATURES: features}, name="features")
        self._recorded, self._key = Recorded(responses.answering(trunk)), ""
        if found := augmenting(network):
            _LOGGER.warning(
                "%s: features are computed as in use, in which these layers do nothing. Augment "
                "the images before the model.",
                ", ".join(found),
            )

    def stages(self) -> Sequence[Stage]:
        return [Stage("new head", self.head_layers(self.task))]

    def call(self, inputs: Any, training: Any = None) -> Any:
        if isinstance(inputs, dict) and _FEATURES in inputs:
            return {self.task: self._head(inputs[_FEATURES], training=training)}
        found = dict(self._trunk(images_of(inputs), training=False))
        features = found.pop(_FEATURES)
        return {**found, self.task: self._head(features, training=training)}

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        if self._options["cache"] is False or kwargs.get("steps_per_epoch") is not None:
            return super()._fit_stage(x, y, **kwargs)
        path = self._open()
        before = set(self._recorded.keys)
        options = {"batch_size": kwargs.get("batch_size"), "verbose": kwargs.get("verbose")}
        try:
            found, used, batch = self._features(x, y, kwargs.get("sample_weight"), **options)
        except ChangingError:
            _LOGGER.info("The images change or have no end: they go through the whole network.")
            return super()._fit_stage(x, y, **kwargs)
        validation = kwargs.get("validation_data")
        if validation is not None:
            given = validation if isinstance(validation, (tuple, list)) else (validation,)
            with contextlib.suppress(ChangingError):
                theirs, also_used, size = self._features(*given, **options)
                if not hasattr(given[0], "shape"):  # whose batches are of another size
                    kwargs["validation_batch_size"] = size
                kwargs["validation_data"] = tuple(part for part in theirs if part is not None)
                used |= also_used
        if self._recorded.nbytes > _LIMIT:
            self._recorded.keep(used)
        if path is not None and not self._recorded.keys <= before:
            responses.write(self._recorded, path, self._key)
            if self._options["cache"] is True:
                _tidy(path.parent)
        features, labels, weights = found
        kwargs |= {"batch_size": options["batch_size"] or batch, "sample_weight": weights}
        return super()._fit_stage(features, labels, **kwargs)

    def _open(self) -> Path | None:
        """The file for the features of the network as it is now, which have been read."""
        key = self._key = responses.key_of(self._trunk)
        self._recorded.belongs_to(key)  # other weights may have been loaded
        if self._options["cache"] is None:
            return None
        path = _file(self._options["cache"], key)
        if not len(self._recorded):
            try:
                responses.read(self._recorded, path, key, "features")
            except ValueError as error:
                if self._options["cache"] is not True:  # a file that the user does not know of
                    raise
                _LOGGER.warning("%s", error)
        return path

    def _features(
        self, x: Any, y: Any = None, weights: Any = None, **options: Any
    ) -> tuple[tuple[Any, Any, Any], set[bytes], int]:
        """Features, labels and weights as arrays, the digests of the images, the size of a batch.

        Raises:
            ChangingError: If the images change, or have no end.
        """
        keys: list[bytes] = []
        parts: list[Any] = []
        for images, *rest in responses.recording(self._recorded, x, what="features", **options):
            keys += digests(images)
            parts.append(rest)
        features = {_FEATURES: self._recorded.find(keys)[0][_FEATURES]}
        if hasattr(x, "shape"):
            return (features, y, weights), set(keys), 32
        labels, *more = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        check_labels(labels, self.network, self.task)
        found = (features, labels, more[0] if more else None)
        return found, set(keys), len(parts[0][0])


def _before(output: Any, own: set[str]) -> Any:
    """The symbolic tensor that the layers of these names begin from."""
    tensor = output
    names = set(own)
    while names:
        layer, node, _ = tensor._keras_history
        names.discard(layer.name)
        tensor = layer._inbound_nodes[node].input_tensors[0]
    return tensor


def _file(cache: bool | str, key: str) -> Path:
    """The file for the features of a network."""
    if cache is True:
        from keras_cnn_classics.weights._download import cache_dir

        folder = cache_dir().parent / "features"
    else:
        folder = Path(str(cache))
        if (folder.suffix == ".npz") == folder.is_dir() and folder.exists():
            raise ValueError(
                "`cache` must be a folder, or a file that ends in .npz. Received: the "
                f"{'folder' if folder.is_dir() else 'file'} {folder}"
            )
        if folder.suffix == ".npz":
            return folder
    return folder / f"{key}.npz"


def _tidy(folder: Path) -> None:
    """Deletes the oldest files that make a folder too large; the newest one stays."""
    total = 0
    with contextlib.suppress(OSError):  # another process may do the same
        files = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files:
            total += file.stat().st_size
            if total > _LIMIT and file is not files[0]:
                file.unlink()
