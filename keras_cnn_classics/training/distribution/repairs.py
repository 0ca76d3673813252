"""What Keras does wrong under a strategy: made right, or refused with the way round.

Written for Keras 3.12 to 3.15. It stands on public methods of `keras.Model`, `keras.Optimizer` and
`keras.random.SeedGenerator`, replaced in the instance, and on two private ones, whose presence is
checked: `Optimizer._all_reduce_sum_gradients` and `Model._maybe_symbolic_build`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_cnn_classics.training._rates import optimizers_of
from keras_cnn_classics.training.distribution import loop
from keras_cnn_classics.training.distribution.devices import on_chief

_NEXT_REPLICA = 1_000_003  # between the seeds of two replicas; larger than the seeds people choose


def prepare(model: Any, *, synchronize_batch_norm: bool = True) -> Any:
    """Makes `fit` of a model right under a strategy; on one device it changes nothing.

    In the scope of `strategy`, before or after `compile`, once for a model. Then:

    - gradients are added up over the replicas *before* they are clipped, and before float16's check
      for overflow, so that every replica does the same;
    - dropout, and every layer that draws by a `keras.random.SeedGenerator`, draws for each replica
      anew;
    - a batch that cannot be shared out evenly (the last one, mostly) takes no part in training on
      TensorFlow, where its images would weigh too much, and is an error on JAX; `evaluate` and
      `predict` are exact for all of them;
    - batch normalization uses the statistics of the global batch;
    - under several workers `fit` and `evaluate` run at all, and only the chief runs the callbacks
      that write files;
    - `fit` begins with `check`.

    Args:
        model: A `keras.Model`, built in the scope of the strategy. It is changed in place; what is
            saved of it is as ever.
        synchronize_batch_norm: Whether batch normalization takes mean and variance over the global
            batch, as one device does, at the price of a communication in every such layer. Without
            it each replica takes those of its share, as the papers that trained on several GPUs
            did, and the result depends on the number of replicas.

    Returns:
        The model.

    Raises:
        ValueError: As `check`.
    """
    check(model)
    if not _is_distributed(model):
        return model
    if keras.backend.backend() == "jax":
        return _prepare_jax(model)
    strategy, base = model.distribute_strategy, type(model)
    built_for: Any = None
    norms = [
        layer
        for layer in model._flatten_layers()
        if synchronize_batch_norm and isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in model._flatten_layers():
        for value in vars(layer).values():
            if isinstance(value, keras.random.SeedGenerator):
                value.next = functools.partial(_draw, value)

    def build(iterator: Any = None, data_batch: Any = None) -> None:
        # Keras adds the replicas' shares of a first batch up, which fails among several workers,
        # and for shares that differ.
        nonlocal built_for
        if built_for is (loss := model.metrics[0]):  # which every `compile` makes anew
            return
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = next(batches)
        loop.build(model, loop.first_share(strategy, data_batch))
        built_for = loss

    def make_train_function(force: bool = False) -> None:
        if model.train_function is None or force:
            _reduce_first(model.optimizer)
            step = loop.replicated(model, model.train_step, _synchronized(norms))
            model.train_function = loop.skip_uneven(strategy, step)

    @functools.wraps(model.fit)
    def fit(*args: Any, **kwargs: Any) -> Any:
        check(model)
        return base.fit(model, *args, **kwargs)

    model._maybe_symbolic_build = build
    model.make_train_function = make_train_function
    model.fit = fit
    if _has_several_workers(strategy):
        _prepare_workers(model)
    return model


def check(model: Any) -> None:
    """Refuses what cannot be trained rightly under the strategy, before anything is computed.

    Args:
        model: A model, compiled or not.

    Raises:
        ValueError: If the model, its optimizer or its metrics were made outside the scope of the
            strategy, for a strategy that is none of ours, and for settings of `compile` or of the
            optimizer that Keras does not carry out under a strategy. The message has the way round.
    """
    faults = [message for bad, message in _faults(model) if bad]
    if faults:
        raise ValueError(" ".join(faults))


def _faults(model: Any) -> Iterator[tuple[bool, str]]:
    backend, current = keras.backend.backend(), keras.distribution.distribution()
    yield (
        backend != "jax" and current is not None,
        f"Keras ignores keras.distribution with the backend {backend}: use "
        f"keras_cnn_classics.training.distribution.strategy instead. Received: {current}",
    )
    if not _is_distributed(model):
        return
    yield (
        not all(_is_in_scope(model, variable) for variable in _variables(model)),
        "The model and its optimizer must be made, and compiled, in the scope of the strategy: "
        "`with strategy.scope(): model = ...; model.compile(...)`.",
    )
    if backend == "jax":
        return
    import tensorflow as tf

    strategy = model.distribute_strategy
    known = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    yield (
        not isinstance(strategy, known),
        "Only MirroredStrategy and MultiWorkerMirroredStrategy are supported. "
        f"Received: {type(strategy).__name__}",
    )
    if not model.compiled:
        return
    yield (
        model.steps_per_execution > 1,
        "Keras fails with steps_per_execution > 1 under a strategy: compile with 1. "
        f"Received: steps_per_execution={model.steps_per_execution}",
    )
    yield (
        bool(model.jit_compile),
        "jit_compile=True fails under a strategy: compile with jit_compile=False or 'auto'.",
    )
    for optimizer in optimizers_of(model.optimizer):
        steps, every = optimizer.gradient_accumulation_steps, optimizer.ema_overwrite_frequency
        yield (
            bool(steps),
            "Keras cannot accumulate gradients under a strategy: take a larger batch, of which "
            f"each replica has its share. Received: gradient_accumulation_steps={steps}",
        )
        yield (
            bool(optimizer.use_ema and every),
            "Keras cannot overwrite weights by their average under a strategy: leave "
            "ema_overwrite_frequency out, and the average is taken when training ends, or use "
            f"keras.callbacks.SwapEMAWeights. Received: ema_overwrite_frequency={every}",
        )
        clips = optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue
        yield (
            not hasattr(optimizer, "_all_reduce_sum_gradients")
            and bool(clips or optimizer is not model.optimizer),
            f"This Keras ({keras.__version__}) clips gradients, and checks float16 for overflow, "
            "on each replica alone: train without clipping, in float32 or bfloat16.",
        )


def _is_distributed(model: Any) -> bool:
    if keras.backend.backend() == "tensorflow":
        return bool(model.distribute_strategy.num_replicas_in_sync > 1)
    return keras.backend.backend() == "jax" and keras.distribution.distribution() is not None


def _variables(model: Any) -> list[Any]:
    if not model.compiled:
        return list(model.variables)
    return [*model.variables, *model.metrics_variables, *model.optimizer.variables]


def _is_in_scope(model: Any, variable: Any) -> bool:
    if keras.backend.backend() == "tensorflow":
        return bool(model.distribute_strategy.extended.variable_created_in_scope(variable.value))
    devices = keras.distribution.distribution().device_mesh.devices
    return len(variable.value.sharding.device_set) == devices.size


def _has_several_workers(strategy: Any) -> bool:
    import tensorflow as tf

    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _reduce_first(optimizer: Any) -> None:
    """Adds gradients up over the replicas before an optimizer looks at them.

    Keras adds them up last, when each replica has clipped, or found finite, what is its own.
    """
    import tensorflow as tf

    inner = optimizers_of(optimizer)
    if not all(hasattr(one, "_all_reduce_sum_gradients") for one in inner):
        return  # `check` has refused what needs it
    for one in inner:
        one._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars

    def apply(grads: Any, trainable_variables: Any = None) -> None:
        grads = list(grads)
        there = [i for i, gradient in enumerate(grads) if gradient is not None]
        summed = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, [grads[i] for i in there]
        )
        for i, gradient in zip(there, summed, strict=True):
            grads[i] = gradient
        type(optimizer).apply(optimizer, grads, trainable_variables)

    optimizer.apply = apply


def _draw(generator: Any, ordered: bool = True) -> Any:
    """The next seed of a generator, another one on each replica.

    The state stays equal on all replicas, so that it can be saved and restored as on one device.
    """
    import tensorflow as tf

    seed = type(generator).next(generator, ordered)
    context = tf.distribute.get_replica_context()
    if context is None:
        return seed
    replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
    return seed + tf.stack([replica * _NEXT_REPLICA, tf.zeros_like(replica)])


def _synchronized(norms: list[Any]) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A scope in which batch normalization uses the statistics of all replicas.

    The layers are as they were outside of it, since a saved model with `synchronized=True` loads
    on TensorFlow only.
    """

    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        before = [layer.synchronized for layer in norms]
        try:
            for layer in norms:
                layer.synchronized = True
            yield
        finally:
            for layer, was in zip(norms, before, strict=True):
                layer.synchronized = was

    return scope


def _prepare_workers(model: Any) -> None:
    """Lets `fit` and `evaluate` run among several workers.

    Keras 3.15 fails when it builds by the first batch, and when it averages the logs. A Keras that
    does not let us build it has our own loop.
    """
    base = type(model)
    own_loop = not hasattr(base, "_maybe_symbolic_build")

    def make_test_function(force: bool = False) -> None:
        if model.test_function is None or force:
            step = loop.replicated(model, model.test_step)
            model.test_function = lambda iterator: step(next(iterator))

    @functools.wraps(model.fit)
    def fit(x: Any = None, *args: Any, **kwargs: Any) -> Any:
        check(model)
        if own_loop:
            return loop.fit(model, x, *args, **kwargs)
        x = loop.shared_out(x, model.distribute_strategy.num_replicas_in_sync)
        kwargs["callbacks"] = on_chief(kwargs.get("callbacks"))
        return base.fit(model, x, *args, **kwargs)

    @functools.wraps(model.evaluate)
    def evaluate(x: Any = None, *args: Any, **kwargs: Any) -> Any:
        check(model)
        if own_loop:
            return loop.evaluate(model, x, *args, **kwargs)
        return base.evaluate(model, loop.shared_out(x), *args, **kwargs)

    model.make_test_function = make_test_function
    model.fit = fit
    model.evaluate = evaluate


def _prepare_jax(model: Any) -> Any:
    """On JAX all is right but batches that do not divide by the devices.

    Evaluation does them all the same, each on every device.
    """
    base = type(model)

    @functools.wraps(model.fit)
    def fit(*args: Any, **kwargs: Any) -> Any:
        check(model)
        try:
            return base.fit(model, *args, **kwargs)
        except ValueError as error:
            if "evenly divide" not in str(error):
                raise
            raise ValueError(
                "On JAX the number of images of every batch must divide by the "
                f"{keras.distribution.distribution().device_mesh.devices.size} devices: choose "
                "another batch size, and leave out the last, smaller batch "
                "(`dataset.batch(n, drop_remainder=True)`)."
            ) from error

    def everywhere(name: str) -> Callable[..., Any]:
        @functools.wraps(getattr(model, name))
        def call(*args: Any, **kwargs: Any) -> Any:
            current = keras.distribution.distribution()
            keras.distribution.set_distribution(None)
            try:
                return getattr(base, name)(model, *args, **kwargs)
            finally:
                keras.distribution.set_distribution(current)

        return call

    model.fit = fit
    for name in ("evaluate", "predict"):
        setattr(model, name, everywhere(name))
    return model
