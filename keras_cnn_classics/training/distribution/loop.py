"""Steps on all replicas, and a plain loop around them for when Keras's `fit` fails."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import keras

from keras_cnn_classics.training.distribution.devices import on_chief, workers


def fit(
    model: Any,
    x: Any,
    *,
    epochs: int = 1,
    verbose: int = 1,
    callbacks: Any = None,
    validation_data: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
) -> Any:
    """Trains a model by a plain loop, which asks nothing of Keras's own `fit`.

    For several workers, with a Keras in which `prepare` cannot make `fit` run; it drives callbacks,
    validation and history as that does.

    Args:
        model: A compiled model that `prepare` has made ready.
        x: A `tf.data.Dataset` of global batches, or what `shares` gives.
        epochs: Where to stop, counted from epoch 0.
        verbose: As in `keras.Model.fit`.
        callbacks: Callbacks; those that write files run on the chief only.
        validation_data: A `tf.data.Dataset`, evaluated after each epoch.
        initial_epoch: Where to start; a callback that restores a run may change it.
        steps_per_epoch: Batches of an epoch, from one iterator for the whole run. Default: a new
            iterator for each epoch, until it ends.
        validation_steps: Batches of the validation. Default: all.

    Returns:
        A `keras.callbacks.History`.

    Raises:
        ValueError: If the data is no data set, or cannot be shared out evenly.
    """
    strategy = model.distribute_strategy
    x = shared_out(x, strategy.num_replicas_in_sync)
    if is_distributed(x):
        batches, sample = x, first_share(strategy, next(iter(x)))
    else:
        batches, sample = strategy.experimental_distribute_dataset(x), x.element_spec
    build(model, sample)
    listening = keras.callbacks.CallbackList(
        on_chief(callbacks),
        add_history=True,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=steps_per_epoch or (None if is_distributed(x) else _length(x)),
        model=model,
    )
    model.stop_training = False
    model.make_train_function()
    listening.on_train_begin()
    endless = iter(batches) if steps_per_epoch else None
    logs: dict[str, Any] = {}
    for epoch in range(getattr(model, "_initial_epoch", None) or initial_epoch, epochs):
        model.reset_metrics()
        listening.on_epoch_begin(epoch)
        # A step that takes its batch itself would still count it in the metrics after the last.
        for step, batch in enumerate(itertools.islice(endless or iter(batches), steps_per_epoch)):
            listening.on_train_batch_begin(step)
            logs = model.train_function(iter([batch]))
            listening.on_train_batch_end(step, logs)
            if model.stop_training:
                break
        logs = _numbers(model.get_metrics_result())
        if validation_data is not None:
            found = evaluate(model, validation_data, validation_steps, listening)
            logs |= {f"val_{name}": value for name, value in found.items()}
        listening.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    listening.on_train_end(logs)
    return model.history


def evaluate(model: Any, x: Any, steps: int | None = None, callbacks: Any = None) -> dict[str, Any]:
    """The metrics of a model over a data set, as `keras.Model.evaluate(return_dict=True)`."""
    x = shared_out(x)
    build(model, x.element_spec)
    listening = callbacks or keras.callbacks.CallbackList(model=model)
    model.make_test_function()
    model.reset_metrics()
    iterator = iter(model.distribute_strategy.experimental_distribute_dataset(x))
    listening.on_test_begin()
    for step, batch in enumerate(itertools.islice(iterator, steps)):
        listening.on_test_batch_begin(step)
        logs = model.test_function(iter([batch]))
        listening.on_test_batch_end(step, logs)
    result = _numbers(model.get_metrics_result())
    listening.on_test_end(result)
    return result


def replicated(
    model: Any,
    step: Callable[[Any], Any],
    scope: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Callable[[Any], Any]:
    """A function that runs a step on all replicas, and gives the mean of their logs.

    Args:
        model: A model under a strategy.
        step: `model.train_step` or `model.test_step`.
        scope: Makes a scope to be in while the step is traced.
    """
    import tensorflow as tf

    strategy = model.distribute_strategy

    def run(batch: Any) -> Any:
        with scope():
            logs = strategy.run(step, args=(batch,))
        # Over the workers too: whoever stops by a log must stop with all the others.
        return keras.tree.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), logs)

    return run if model.run_eagerly else tf.function(run, reduce_retracing=True)


def skip_uneven(strategy: Any, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A train function for `fit` that leaves out batches with unequal shares for the replicas.

    A gradient is the mean over the replicas, in which an image of a small share weighs too much.
    """
    logs: Any = None

    def train(iterator: Any) -> Any:
        nonlocal logs
        batch = next(iterator)
        shares = strategy.experimental_local_results(keras.tree.flatten(batch)[0])
        if len({len(share) for share in shares}) == 1:
            logs = step(batch)
        elif logs is None:
            raise ValueError(
                "The number of images of a batch must divide by the "
                f"{strategy.num_replicas_in_sync} replicas: choose another batch size. "
                f"Received: shares of {' and '.join(str(len(share)) for share in shares)}"
            )
        return logs

    return train


def shares(model: Any, batches: Callable[..., Any]) -> Any:
    """Global batches for `fit`, of which every worker makes no more than its share.

    Args:
        model: A model in the scope of a strategy.
        batches: A function that gives the share of one worker of several as a `tf.data.Dataset`,
            such as `endless` of what `data.load` gives.

    Raises:
        ValueError: If a share cannot be dealt out evenly to the replicas of a worker.
    """
    if workers() == 1:
        return batches()
    strategy = model.distribute_strategy

    def share(context: Any) -> Any:
        found = batches(context.input_pipeline_id, context.num_input_pipelines)
        size = keras.tree.flatten(found.element_spec)[0].shape[0]
        here = strategy.num_replicas_in_sync // context.num_input_pipelines
        if size % here:
            raise ValueError(
                f"A worker's share of a batch must divide by its {here} replicas: choose another "
                f"batch size. Received: {size} images of {size * context.num_input_pipelines}"
            )
        return found.rebatch(size // here) if here > 1 else found

    return strategy.distribute_datasets_from_function(share)


def is_distributed(x: Any) -> bool:
    """Whether these are batches that a strategy has shared out already."""
    import tensorflow as tf

    return isinstance(x, tf.distribute.DistributedDataset)


def first_share(strategy: Any, batch: Any) -> Any:
    """What the first replica of this process has of a batch."""
    return keras.tree.map_structure(
        lambda part: strategy.experimental_local_results(part)[0], batch
    )


def shared_out(x: Any, replicas: int | None = None) -> Any:
    """A data set of which every worker will take its share of each batch.

    Args:
        x: What the user has given.
        replicas: The number of replicas that must have equal shares; `None` if they need not.

    Raises:
        ValueError: For anything but a data set, or one with batches of varying size, which the
            workers would not agree about.
    """
    import tensorflow as tf

    if is_distributed(x):
        return x  # such as `shares` gives, or whoever knows what to do
    if not isinstance(x, tf.data.Dataset):
        raise ValueError(
            f"Several workers need their data as one tf.data.Dataset. Received: {type(x).__name__}"
        )
    size = keras.tree.flatten(x.element_spec)[0].shape[0]
    if replicas and (size is None or size % replicas):
        raise ValueError(
            f"Several workers need batches of one size that divides by the {replicas} replicas: "
            f"dataset.batch(size, drop_remainder=True). Received: {size or 'sizes that vary'}"
        )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return x.with_options(options)


class _Symbolic(keras.Operation):
    """Runs a function on symbols, which makes its variables and changes none."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def call(self, *args: Any) -> Any:
        return self.function(*args)


def build(model: Any, batch: Any) -> None:
    """Makes all variables of training, which cannot be made within a step.

    Args:
        model: A compiled model.
        batch: `(x, y)` or `(x, y, sample_weight)`, of anything with a shape and a type.
    """

    def all_of_it(x: Any, y: Any, weights: Any) -> Any:
        outputs = model(x, training=False)
        model.compute_loss(x, y, outputs, weights, training=False)
        return model.compute_metrics(x, y, outputs, weights)

    with model.distribute_strategy.scope():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        symbols = keras.tree.map_structure(
            lambda v: v if v is None else keras.KerasTensor((None, *v.shape[1:]), _dtype(v)), batch
        )
        _Symbolic(all_of_it).compute_output_spec(*keras.utils.unpack_x_y_sample_weight(symbols))


def _dtype(value: Any) -> str:
    return str(keras.utils.standardize_dtype(value.dtype))


def _length(dataset: Any) -> int | None:
    length = int(dataset.cardinality())
    return length if length >= 0 else None


def _numbers(logs: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) for name, value in logs.items()}
