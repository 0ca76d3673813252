"""Distillation: a network learns from the answers of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_cnn_classics.data.batches.recorded import Recorded
from keras_cnn_classics.training import distribution
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import layers_of
from keras_cnn_classics.training.scalars import LiveScalars, Scalar, keep_live
from keras_cnn_classics.transfer import heads as _heads
from keras_cnn_classics.transfer import responses
from keras_cnn_classics.transfer.learner import (
    check_data,
    check_form,
    check_unaugmented,
    images_of,
    loss_of,
    unscaled,
    with_accuracy_of,
)
from keras_cnn_classics.transfer.losses import DistillationLoss, scores
from keras_cnn_classics.transfer.parts import train_all, weighted_layers
from keras_cnn_classics.transfer.staged import Stage, StagedModel

_ANSWERS = "answers"
_SCORES = "scores"


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class Distillation(StagedModel):
    """Trains a student on the labels and on the softened answers of one teacher or several.

    The loss is `alpha * soft + (1 - alpha) * hard` and the student's own penalties. `hard` is the
    loss of the labels, and `soft` is `DistillationLoss`: the cross-entropy with the teacher's
    probabilities, both at a temperature. Without labels (`fit(images)`) only `soft` counts.
    Sample weights and class weights count in both.

    The answers of the teachers are recorded once for images that are the same in every epoch;
    augmented images go through the teachers at each step. Images are resized for a teacher that
    takes another size; if it wants them prepared in another way, that must be layers of its own.

    Hints are what a layer of the first teacher gives: a layer of the student, through a regressor,
    learns to give the same, by half the mean squared difference. The regressor is a convolution as
    large as the difference of their sizes asks for, or a dense layer; it is not in what
    `export_model` gives.

    The student that it is made of stays as it is, and so do the teachers: all are copied. Layers
    that are frozen in the student do not learn.

    Args:
        student: The Functional or Sequential model to train.
        teacher: A trained one, or a list of them.
        temperature: Temperature of `soft`. Defaults to `4`.
        alpha: Share of `soft`. Defaults to `0.9`.
        squared: Whether `soft` is multiplied by the temperature's square, as Hinton et al. do so
            that the shares stay the same at any temperature. Defaults to `True`.
        mean: What is averaged over several teachers: `"probabilities"`, at the temperature, or
            `"logits"`.
        hints: Names of pairs of layers, the teacher's as keys and the student's as values. A model
            in a model is one layer.
        hint_weight: Weight of the hints. Defaults to `1`.
        hint_epochs: Epochs at the start in which the student's layers up to the hints learn by them
            alone; afterwards these do not count any more, as in FitNets. Defaults to `0`: they
            count all the time.
        responses: `"recorded"`, `"live"` or `"auto"`; see `LearningWithoutForgetting`.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of range, the heads of student and teacher do not match,
            or a hint fits no layers.

    Example:
        small = transfer.Distillation(student, teacher, temperature=20)
        small.compile("adam", metrics=["accuracy"])
        small.fit(images, labels, epochs=20)
        small.export_model().save("small.keras")

    References:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531)
        - [Romero et al., 2014](https://arxiv.org/abs/1412.6550), section 2.2: hints
    """

    batch_norm = True

    def __init__(
        self,
        student: Any,
        teacher: Any,
        *,
        temperature: float = 4.0,
        alpha: float = 0.9,
        squared: bool = True,
        mean: str = "probabilities",
        hints: Mapping[str, str] | None = None,
        hint_weight: float = 1.0,
        hint_epochs: int = 0,
        responses: str = "auto",
        name: str | None = None,
    ) -> None:
        check_number("alpha", alpha, 0)
        if alpha > 1:
            raise ValueError(
                f"`alpha` must be a share, at least 0 and at most 1. Received: {alpha}"
            )
        if mean not in ("probabilities", "logits"):
            raise ValueError(f"`mean` must be 'probabilities' or 'logits'. Received: {mean!r}")
        if responses not in ("auto", "recorded", "live"):
            raise ValueError(
                f"`responses` must be 'auto', 'recorded' or 'live'. Received: {responses!r}"
            )
        check_number("hint_weight", hint_weight, 0)
        check_number("hint_epochs", hint_epochs, 0, whole=True)
        hints = dict(hints or {})
        if hints and responses == "recorded":
            raise ValueError("Hints are not recorded: take responses='live' or 'auto' with them.")
        given = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        if not given:
            raise ValueError("There must be a teacher. Received: none")
        teachers = [_heads.copy_of(_single(_heads.functional(one))) for one in given]
        copy = _heads.copy_of(_single(_heads.functional(student)))
        for one in teachers:
            _check_match(copy, one)
        for one in (copy, *teachers):
            check_unaugmented(one)
        self._set_up(
            network=_with_hints(copy, teachers[0], hints),
            teachers=teachers,
            temperature=temperature,
            alpha=alpha,
            squared=squared,
            mean=mean,
            hints=hints,
            hint_weight=hint_weight,
            hint_epochs=hint_epochs,
            responses=responses,
            frozen=[layer.name for layer in weighted_layers(copy) if not layer.trainable],
            name=name,
        )

    def _set_up(
        self,
        *,
        network: Any,
        teachers: Sequence[Any],
        temperature: float,
        alpha: float,
        squared: bool,
        name: str | None,
        **options: Any,
    ) -> None:
        StagedModel.__init__(self, network, name=name)
        self._options = options
        self._teachers = list(teachers)
        for teacher in self._teachers:
            teacher.trainable = False
        self._form = _heads.form_of(network.output[_ANSWERS])
        self.alpha = Scalar(alpha, "alpha")
        self.soft = DistillationLoss(temperature, squared, self._form, "linear", name="soft_loss")
        self.soft_loss = keras.metrics.Mean("soft_loss")
        self.live_scalars = LiveScalars()
        keep_live(self, [self.alpha, self.soft.temperature])
        first, self._hinting = self._teachers[0], None
        if options["hints"]:
            wanted = {_regressor_of(name): _output_of(first, name) for name in options["hints"]}
            self._hinting = keras.Model(first.input, {_ANSWERS: first.output, **wanted})
        self._recorded = Recorded(self._compute)

    def _compute(self, images: Any) -> dict[str, Any]:
        found = [
            responses.outputs(teacher, ops.convert_to_numpy(_sized(images, teacher)))
            for teacher in self._teachers
        ]
        return {
            _SCORES: ops.convert_to_numpy(
                ops.stack(
                    [
                        scores(ops.cast(one, "float32"), _form(teacher))
                        for one, teacher in zip(found, self._teachers, strict=True)
                    ],
                    axis=1,
                )
            )
        }

    def _live(self, images: Any, given: Any = None) -> dict[str, Any]:
        """What `_compute` gives, within a step; the first teacher's answers may be given."""
        found = [] if given is None else [given[_ANSWERS]]
        others = self._teachers[len(found) :]
        found += [one(_sized(images, one), training=False) for one in others]
        each = [
            scores(ops.cast(answers, "float32"), _form(one))
            for answers, one in zip(found, self._teachers, strict=True)
        ]
        return {_SCORES: ops.stack(each, axis=1)}

    # -- Keras ---------------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        frozen = set(self._options["frozen"])
        everything = [x for x in weighted_layers(self.network) if x.name not in frozen]
        start = self._options["hint_epochs"]
        if not start or not self._options["hints"]:
            return [Stage("distillation", everything)]
        hinted = {name: out for name, out in self.network.output.items() if name != _ANSWERS}
        part = set(map(id, layers_of(keras.Model(self.network.input, hinted))))
        before = [layer for layer in everything if id(layer) in part]
        regressors = set(map(id, map(self.network.get_layer, hinted)))
        student = [layer for layer in everything if id(layer) not in regressors]
        return [Stage("hints", before), Stage("distillation", student, start)]

    @property
    def _hinted(self) -> bool:
        """Whether hints count in this stage."""
        return bool(self._options["hints"]) and (
            not self._options["hint_epochs"] or self.stage.name == "hints"
        )

    def call(self, inputs: Any, training: Any = None) -> Any:
        found = self.network(images_of(inputs), training=training)
        return found if training and self._hinted else found[_ANSWERS]

    def default_loss(self) -> Any:
        return loss_of(self._form)

    def check_loss(self, loss: Any) -> None:
        check_form(loss, self._form, "the student")

    def check_data(self, x: Any, y: Any) -> None:
        check_data(x, y, self.network, _ANSWERS, labelled=False)

    def _compile(self, arguments: dict[str, Any]) -> None:
        super()._compile(with_accuracy_of(self._form, arguments))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        answers = y_pred[_ANSWERS] if isinstance(y_pred, dict) else y_pred
        total = penalties = self._penalties()
        hard, given = None, None
        if y is not None:  # before the teachers, which may have penalties of their own
            hard = super().compute_loss(x, y, answers, sample_weight, training) - penalties
        if isinstance(y_pred, dict):
            assert self._hinting is not None
            given = self._hinting(_sized(x, self._hinting), training=False)
            hint = self._hint_loss(given, y_pred, sample_weight)
            total = total + self._options["hint_weight"] * hint
            if self.stage.name == "hints":
                return total
        soft = self.soft(self._soft_answers(x, given), answers, sample_weight)
        self.soft_loss.update_state(unscaled(soft))
        if hard is None:
            return total + soft
        alpha = ops.convert_to_tensor(self.alpha)
        return total + alpha * soft + (1 - alpha) * hard

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if y is None:
            return self._losses_alone()
        answers = y_pred[_ANSWERS] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, answers, sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        # Keras builds what measures by labels when it sees the first ones.
        built = all(getattr(one, "built", True) for one in self.metrics)
        return dict(super().get_metrics_result()) if built else self._losses_alone()

    def _losses_alone(self) -> dict[str, Any]:
        means = (one for one in self.metrics if isinstance(one, keras.metrics.Mean))
        return {one.name: one.result() for one in means}

    def _penalties(self) -> Any:
        """The student's own losses, as TensorFlow's replicas share them."""
        found = sum(self.losses, start=ops.zeros(()))
        if keras.backend.backend() == "tensorflow":
            return found / distribution.replicas()
        return found

    def _soft_answers(self, x: Any, given: Any) -> Any:
        """The teachers' answers as scores of one teacher; the first one's may be given."""
        each = responses.answers_of(x, lambda images: self._live(images, given))[_SCORES]
        if len(self._teachers) == 1:
            return each[:, 0]
        if self._options["mean"] == "logits":
            return ops.mean(each, axis=1)
        temperature = ops.convert_to_tensor(self.soft.temperature)
        soften = ops.sigmoid if self._form == "sigmoid" else ops.softmax
        form = "sigmoid" if self._form == "sigmoid" else "softmax"
        return temperature * scores(ops.mean(soften(each / temperature), axis=1), form)

    def _hint_loss(self, given: Any, y_pred: Any, sample_weight: Any) -> Any:
        half = keras.losses.MeanSquaredError()
        total: Any = 0.0
        for name in map(_regressor_of, self._options["hints"]):
            rows = (ops.shape(given[name])[0], -1)
            target, found = (ops.reshape(one[name], rows) for one in (given, y_pred))
            total = total + 0.5 * half(target, found, sample_weight)
        return total

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        if not self._hinted:
            how = self._options["responses"]
            self._recorded.belongs_to(*map(responses.key_of, self._teachers))
            x = responses.with_answers(self._recorded, x, how, "the teacher's answers", kwargs)
        return super()._fit_stage(x, y, **kwargs)

    # -- Results -------------------------------------------------------------------------------

    def export_model(self, *, name: str | None = None) -> keras.Model:
        """Gives the student as a plain Functional model with weights of its own.

        Args:
            name: Name of the model. Defaults to the student's.
        """
        network = self.network
        student = keras.Model(network.input, network.output[_ANSWERS], name=name or network.name)
        exported = _heads.copy_of(student)
        train_all(exported)
        return exported

    def settings(self) -> dict[str, Any]:
        return {
            "teachers": list(self._teachers),
            "temperature": float(self.soft.temperature),
            "alpha": float(self.alpha),
            "squared": self.soft.squared,
            **self._options,
        }


def _form(model: keras.Model) -> str:
    return _heads.form_of(model.output)


def _single(model: keras.Model) -> keras.Model:
    """A model with one answer."""
    outputs = _heads.outputs_of(model, _ANSWERS)
    if len(outputs) != 1:
        raise ValueError(
            "Student and teacher must have one head each: of a model of several tasks take "
            f"export_model(task). Received: {model.name!r} with {list(outputs)}"
        )
    return keras.Model(model.input, next(iter(outputs.values())), name=model.name)


def _check_match(student: keras.Model, teacher: keras.Model) -> None:
    ours, theirs = student.output.shape, teacher.output.shape
    if ours != theirs:
        raise ValueError(
            "Student and teacher must answer for the same classes. Received: outputs of the "
            f"shape {ours} and {theirs}"
        )
    DistillationLoss(1.0, False, _form(student), _form(teacher))
    channels = -1 if keras.config.image_data_format() == "channels_last" else 1
    ours, theirs = student.input.shape, teacher.input.shape
    if len(ours) != len(theirs) or (len(ours) == 4 and ours[channels] != theirs[channels]):
        raise ValueError(
            "The images of student and teacher may differ in size, not in their channels. "
            f"Received: inputs of the shape {ours} and {theirs}"
        )
    if len(ours) != 4 and ours != theirs:
        raise ValueError(
            f"Student and teacher must take the same inputs. Received: {ours} and {theirs}"
        )


def _sized(images: Any, teacher: keras.Model) -> Any:
    """The images in the size that a teacher takes."""
    wanted = teacher.input.shape
    last = keras.config.image_data_format() == "channels_last"
    place = slice(1, 3) if last else slice(2, 4)
    size = wanted[place]
    if len(wanted) != 4 or None in size or tuple(images.shape[place]) == tuple(size):
        return images
    return ops.image.resize(images, size, interpolation="bilinear", antialias=True)


def _with_hints(student: keras.Model, teacher: keras.Model, hints: Mapping[str, str]) -> Any:
    """The student with an output for each hint, by the name of its regressor."""
    outputs = {_ANSWERS: student.output}
    for theirs, ours in hints.items():
        target, guided = _output_of(teacher, theirs), _output_of(student, ours)
        name = _regressor_of(theirs)
        regressor = _regressor(target.shape, guided.shape, name, theirs, ours)
        outputs[name] = regressor(guided)
    return keras.Model(student.input, outputs, name=student.name)


def _regressor_of(theirs: str) -> str:
    return f"{theirs}_regressor"


def _output_of(model: keras.Model, name: str) -> Any:
    """What a layer gives where it is called in a model."""
    for layer in model.layers:
        if layer.name == name:
            return layer._inbound_nodes[0].output_tensors[0]
        if any(inner.name == name for inner in layers_of(layer)):
            raise ValueError(
                f"The layer {name!r} lies within {layer.name!r}, out of reach of a hint. Take "
                f"{layer.name!r} as a whole; or, if it is a model in the model, build on its own "
                f"input and output instead of calling it: x = {layer.name}.output."
            )
    names = ", ".join(layer.name for layer in model.layers)
    raise ValueError(f"{model.name!r} has no layer {name!r} for a hint. Its layers are: {names}.")


def _regressor(target: Any, guided: Any, name: str, theirs: str, ours: str) -> Any:
    """A layer that makes the shape of a teacher's layer from that of a student's."""
    last = keras.config.image_data_format() == "channels_last"
    if len(target) == len(guided) == 2:
        return layers.Dense(target[-1], name=name)
    if len(target) == len(guided) == 4:
        place, channels = (slice(1, 3), -1) if last else (slice(2, 4), 1)
        sizes = list(zip(target[place], guided[place], strict=True))
        if all(t is not None and g is not None and g >= t for t, g in sizes):
            kernel = tuple(g - t + 1 for t, g in sizes)
            return layers.Conv2D(target[channels], kernel, name=name)
        if all(t is None and g is None for t, g in sizes):
            return layers.Conv2D(target[channels], 1, name=name)
    raise ValueError(
        f"The student's {ours!r}, of the shape {guided}, cannot be made to fit the teacher's "
        f"{theirs!r}, of the shape {target}: it must have as many dimensions, and be no smaller."
    )
