"""Fine-tuning of a trained model for a new task, in place of the old one or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.transfer.learner import Learner, images_of, rates_by_depth
from keras_cnn_classics.transfer.parts import blocks, part_from, weighted_layers
from keras_cnn_classics.transfer.staged import Stage


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class FineTuning(Learner):
    """Trains a new head, and then layers of the trained model with it.

    The old task's head stays as it is, but what it gets from the shared layers changes: how much
    the old task is forgotten is seen in its answers.

    Batch normalization keeps its statistics and its weights by `trainable=False`; an argument
    `training=False` alone is not heeded by all versions of Keras.

    Args:
        model: A trained Functional or Sequential model.
        classes: Number of classes of the new task; `None` if `task` is one of the model's own.
        task: Name of the new task.
        train_from: Which of the old layers learn after the warm-up: `"all"`, `"last_block"`, a
            number of layers with kernels before the head, or the name of a layer, in which `*`
            stands for anything, for it and all after it.
        warmup_epochs: Epochs in which only the new head learns. Defaults to `5`.
        warmup_rate: Factor on the learning rate in them. Defaults to `10`.
        layer_decay: Factor on the learning rate from one block of layers to the one before it.
            Defaults to `None`: all learn alike.
        unfreeze_every: Epochs after which one more block learns, from the last one on, until all
            of `train_from` do. Defaults to `None`: all of them at once.
        freeze_batch_norm: Whether batch normalization stays as it is. Defaults to `True`.
        decay: Coupled weight decay of kernels, in place of the layers' own and also in what is
            exported; see `training.add_l2`. Defaults to `0`: what the model's layers have.
        hidden: Units of a hidden layer in the new head.
        multi_label: Whether an image may have several of the new labels.
        old_task: Name of the old task of a model with one output; `None` for a model without a
            head, all of whose layers are shared.
        head: Name of the first layer of the old head, if it is not its last layer with weights.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of range, or the model's head is not recognised.

    Example:
        tuned = transfer.FineTuning(model, classes=5, train_from="last_block")
        tuned.compile(keras.optimizers.SGD(1e-3, 0.9), metrics=["accuracy"])
        tuned.fit(images, labels, epochs=25)
        tuned.export_model("new").save("flowers.keras")

    References:
        - [Yosinski et al., 2014](https://arxiv.org/abs/1411.1792)
        - [Howard and Ruder, 2018](https://arxiv.org/abs/1801.06146), section 3.3: one more layer
          after each epoch
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), section 3: the warm-up
    """

    def __init__(
        self,
        model: Any,
        classes: int | None = None,
        task: str = "new",
        *,
        train_from: str | int = "all",
        warmup_epochs: int = 5,
        warmup_rate: float = 10.0,
        layer_decay: float | None = None,
        unfreeze_every: int | None = None,
        freeze_batch_norm: bool = True,
        decay: float = 0.0,
        hidden: int | None = None,
        multi_label: bool = False,
        old_task: str | None = "old",
        head: str | None = None,
        name: str | None = None,
    ) -> None:
        check_number("warmup_epochs", warmup_epochs, 0, whole=True)
        check_number("warmup_rate", warmup_rate, above=0)
        if layer_decay is not None:
            check_number("layer_decay", layer_decay, above=0)
        if unfreeze_every is not None:
            check_number("unfreeze_every", unfreeze_every, 1, whole=True)
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
            train_from=train_from,
            warmup_epochs=warmup_epochs,
            warmup_rate=warmup_rate,
            layer_decay=layer_decay,
            unfreeze_every=unfreeze_every,
            freeze_batch_norm=freeze_batch_norm,
        )

    def _set_up(self, **options: Any) -> None:
        super()._set_up(**options)
        self.stages()  # what cannot be is refused now

    def trunk_layers(self) -> list[Any]:
        """The layers before the head that may learn."""
        return self.shared_layers()

    def stages(self) -> Sequence[Stage]:
        options, head = self._options, self.head_layers(self.task)
        trunk = part_from(self.trunk_layers(), options["train_from"])
        factors = {}
        if options["layer_decay"] is not None:
            factors = rates_by_depth(trunk, options["layer_decay"])
        start, stages = options["warmup_epochs"], []
        if start:
            stages.append(Stage("warm-up", head, rate=options["warmup_rate"]))
        every = options["unfreeze_every"]
        groups = blocks(trunk) if every else [trunk]
        for i in range(len(groups)):
            learning = [layer for group in groups[len(groups) - 1 - i :] for layer in group]
            names = {layer.name for layer in learning}
            chosen = {group: f for group, f in factors.items() if names.issuperset(group)}
            stages.append(
                Stage("fine-tuning", [*learning, *head], start + i * (every or 0), factors=chosen)
            )
        return stages


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class DuplicateAndFineTune(FineTuning):
    """Keeps the old network whole, and fine-tunes a copy of it beside it for the new task.

    Nothing of the old task is forgotten, for twice the weights and twice the time of a prediction.
    While it is trained only the copy is computed.

    All arguments are those of `FineTuning`.

    References:
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), figure 2 and table 1, where it is
          the fine-tuned network beside the old one
    """

    duplicates = True

    def _set_up(self, **options: Any) -> None:
        super()._set_up(**options)
        network = self.network
        self._new = keras.Model(network.input, network.output[self.task], name="new")

    def trunk_layers(self) -> list[Any]:
        olds = [self.network.output[task] for task in self.tasks if task != self.task]
        before = weighted_layers(keras.Model(self.network.input, olds))
        return [layer for layer in self.shared_layers() if layer not in before]

    def call(self, inputs: Any, training: Any = None) -> Any:
        if training:
            return {self.task: self._new(images_of(inputs), training=True)}
        return super().call(inputs, training)
