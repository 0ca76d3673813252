"""Which method to begin with: the two-by-two of the lectures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data.batches.recorded import batches_of
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import as_array
from keras_cnn_classics.transfer import heads, responses

# Images of a class. The lectures give no numbers; these are ours. From a thousand on there are as
# many as ImageNet has, where networks are trained from nothing. Below a hundred, a tenth held out
# for validation is fewer than ten images, by which overfitting is not seen.
LITTLE, MUCH = 100, 1000

# Values of `similarity`, with the features of small networks trained on half of the classes of a
# data set, and 1,000 images. CIFAR-10: the other classes 0.62, the same inverted 0.42, flower
# photographs 0.38, Fashion-MNIST 0.06, MNIST 0.01, noise 0.00. MNIST: the other digits 0.09,
# Fashion-MNIST 0.02, grey CIFAR-10 0.01. So photographs for photographs lie above, what is of
# another kind below, and a network that tells its classes very well apart is in between.
FAR, NEAR = 0.05, 0.2

_LEAST = 20  # images of a kind, below which an error of 5 % cannot be seen


@dataclass(frozen=True)
class Advice:
    """What to begin with.

    Attributes:
        method: Name of a method of `transfer`.
        arguments: Arguments of it that matter here, beside the model and the classes.
        rate: Learning rate for it, as a factor on the first one that the old network was trained
            with.
        earlier: Whether the new head should stand on an earlier layer than the last one before the
            old head: `keras.Model(model.input, model.get_layer(name).output)` is then the model,
            with `old_task=None`.
        borderline: Whether another cell of the two-by-two is as good a guess.
        reasons: Why, in sentences.

    Example:
        advice = transfer.advise(400, "near")
        learner = getattr(transfer, advice.method)(model, classes=5, **advice.arguments)
    """

    method: str
    arguments: Mapping[str, Any]
    rate: float
    earlier: bool = False
    borderline: bool = False
    reasons: tuple[str, ...] = field(default=(), repr=False)

    @property
    def call(self) -> str:
        """The method with its arguments, for people."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.method}({given})" + " on an earlier layer" * self.earlier

    def __str__(self) -> str:
        return "\n".join([f"{self.call}, at {self.rate:g} of the old rate", *self.reasons])


# Rates by Li and Hoiem, section 4: 0.02 to 0.1 of the old one, 5 times that for a head alone. Here
# 0.1 did better than 0.02 on CIFAR-10's halves, with 10, 30 and 100 images of a class.
_CELLS = {
    ("little", "near"): (
        Advice("FeatureExtraction", {}, rate=0.5),
        "A large network would learn few images by heart if all layers could change, and the "
        "features of a near task fit already: train a linear head on them.",
    ),
    ("little", "far"): (
        Advice("FeatureExtraction", {}, rate=0.5, earlier=True),
        "A large network would learn few images by heart if all layers could change, but its last "
        "features belong to the old task: train a linear head on those of several earlier layers, "
        "and keep the best by validation. Expect the least of this case: more images help most.",
    ),
    ("much", "near"): (
        Advice("FineTuning", {"train_from": "last_block"}, rate=0.1),
        "There are images enough to train layers, and little in them has to change: fine-tune the "
        "last ones, at a low rate. If there is time, fine-tune all of them, too.",
    ),
    ("much", "far"): (
        Advice("FineTuning", {"train_from": "all"}, rate=0.1),
        "There are images enough to train all layers, and features of another kind are wanted: "
        "fine-tune all, from the old weights. Training from nothing is worth a comparison.",
    ),
}
_FORGETS = (
    "Fine-tuning forgets the old task. If that still matters, take LearningWithoutForgetting at "
    "the same rate."
)


def advise(n_images_per_class: float, similarity: float | str) -> Advice:
    """Says which method to begin with: the two-by-two of little or much data, near or far task.

    It is a rule of thumb for a first try; `compare` measures on the data themselves. The lectures
    speak of networks with many millions of weights. A small one may not overfit as they fear: one
    of 0.2 million, trained on half of CIFAR-10's classes, learned the others better by fine-tuning
    all layers than by a linear head from 10 images of a class on (0.48 right against 0.44, and 0.62
    against 0.51 with 100; one run each).

    Between the thresholds `LITTLE` and `MUCH`, or `FAR` and `NEAR`, of this module a case is
    borderline: the geometric mean of the two decides, and the reasons name the other choice.

    Args:
        n_images_per_class: Training images of a class; of unequal ones, those of the smallest.
        similarity: What `similarity` has measured, or `"near"` or `"far"` by your own judgement,
            where there are no images of the old task. Near are photographs of things for a network
            of ImageNet; far are X-rays, drawings, spectrograms.

    Raises:
        ValueError: If an argument is neither.

    References:
        - CS231n, [Transfer learning](https://cs231n.github.io/transfer-learning/)
        - [Yosinski et al., 2014](https://arxiv.org/abs/1411.1792): features become special from
          layer to layer
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), section 4: rates
    """
    check_number("n_images_per_class", n_images_per_class, 1)
    amount, much_or_little = _side(n_images_per_class, LITTLE, MUCH, ("little", "much"))
    if similarity in ("near", "far"):
        task, near_or_far = str(similarity), False
    elif isinstance(similarity, str):
        raise ValueError(
            "`similarity` must be 'near', 'far' or a number from 0 to 1, as `similarity` measures "
            f"it. Received: {similarity!r}"
        )
    else:
        check_number("similarity", similarity, 0, below=1 + 1e-9)
        task, near_or_far = _side(similarity, FAR, NEAR, ("far", "near"))
    advice, why = _CELLS[amount, task]
    reasons = [why]
    if much_or_little:
        other = _CELLS["little" if amount == "much" else "much", task][0]
        reasons.append(
            f"{n_images_per_class:g} images of a class are neither clearly few (below {LITTLE}) "
            f"nor many (from {MUCH} on): try {other.call}, too."
        )
    if near_or_far:
        other = _CELLS[amount, "far" if task == "near" else "near"][0]
        reasons.append(
            f"A similarity of {similarity:.2g} is neither clearly far (below {FAR}) nor near (from "
            f"{NEAR} on): try {other.call}, too."
        )
    if advice.method == "FineTuning":
        reasons.append(_FORGETS)
    return replace(advice, borderline=much_or_little or near_or_far, reasons=tuple(reasons))


def _side(value: float, low: float, high: float, names: tuple[str, str]) -> tuple[str, bool]:
    """The side of the middle of two thresholds, and whether the value lies between them."""
    return names[bool(value >= math.sqrt(low * high))], bool(low <= value < high)


def similarity(
    model: Any,
    old_images: Any,
    new_images: Any,
    *,
    images: int = 1000,
    layer: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> float:
    """Measures how near a new task's images are to the old ones, as a network sees them.

    A linear classifier learns to tell old from new by the network's features, on as many images of
    each. The similarity is twice its error on images that it has not learned from, in 5 folds: 0
    if it tells all of them apart; 1 if it does no better than by chance, as for images of one
    source. In terms of the proxy A-distance it is `1 - distance / 2`. The classifier is a logistic
    regression of standardised features, with a penalty of `|w|^2 / 200` on the mean loss.

    New classes are told from old ones even where the images are of one kind: the better the
    network tells classes apart, and the more images there are, the more so. So compare numbers of
    one network by as many images, and do not expect 1 of a near task: `advise` has thresholds.

    Args:
        model: A trained Functional or Sequential model.
        old_images: Images of the old task, prepared for the model: an array, or batches of images
            or of images and labels, such as a `tf.data.Dataset`. Where those of the training are
            gone, a few hundred of the same kind do. Where there are none, use your own judgement:
            `advise(n, "near")` or `"far"`.
        new_images: The same of the new task.
        images: Images of each kind at most: a sample of an array, the first ones of batches, which
            should therefore be shuffled.
        layer: Name of the layer that gives the features. Defaults to the one before the head.
        batch_size: Images of an array that are computed at a time.
        seed: Seed of the sample and the folds.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: If there are fewer than 20 images of a kind, they do not fit the model, or its
            head is not recognised.

    References:
        - [Ben-David et al., 2006](https://papers.nips.cc/paper/2983), section 4: the proxy
          A-distance
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_number("images", images, _LEAST, whole=True)
    check_number("batch_size", batch_size, 1, whole=True)
    check_number("seed", seed, 0, whole=True)
    trunk = _trunk(model, layer)
    rng = np.random.default_rng(seed)
    kinds = []
    for name, given in (("old_images", old_images), ("new_images", new_images)):
        found = _features(trunk, given, images, batch_size, rng, name)
        kinds.append(found[rng.permutation(len(found))])
    size = min(map(len, kinds))
    features = np.concatenate([found[:size] for found in kinds])
    labels = np.repeat([0, 1], size)
    penalty = 1 / 100
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=1 / (penalty * len(labels)), max_iter=1000)
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    told = cross_val_predict(classifier, features, labels, cv=folds)
    return min(1.0, 2 * float(np.mean(told != labels)))


def _trunk(model: Any, layer: str | None) -> keras.Model:
    """The model from images to features."""
    network = heads.functional(getattr(model, "network", model))
    if layer is None:
        output = list(heads.outputs_of(network, "old").values())[-1]
        return keras.Model(network.input, heads.find_head(output).inputs)
    names = [one.name for one in network.layers]
    if layer not in names:
        raise ValueError(f"`layer` must be one of {', '.join(names)}. Received: {layer!r}")
    return keras.Model(network.input, network.get_layer(layer).output)


def _features(
    trunk: keras.Model, given: Any, limit: int, size: int, rng: np.random.Generator, name: str
) -> np.ndarray:
    """The features of some images, of shape `(images, features)`; maps are averaged."""
    if given is None:
        raise ValueError(
            f"`{name}` must be images. Without any, judge for yourself: advise(n, 'near') or "
            "advise(n, 'far'). Received: None"
        )
    if hasattr(given, "shape"):
        chosen = np.sort(rng.permutation(len(given))[:limit])
        given = as_array(given)[chosen]
    found: list[np.ndarray] = []
    total = 0
    for images, *_ in batches_of(given, None, size):
        if images.shape[1:] != trunk.input_shape[1:] and None not in trunk.input_shape[1:]:
            raise ValueError(
                f"`{name}` must have the shape {trunk.input_shape[1:]}, that of the model's. "
                f"Received: {images.shape[1:]}"
            )
        found.append(as_array(responses.outputs(trunk, images)).astype("float64"))
        total += len(images)
        if total >= limit:
            break
    if total < _LEAST:
        raise ValueError(f"`{name}` must be {_LEAST} images at least. Received: {total}")
    features = np.concatenate(found)[:limit]
    if features.ndim == 4:
        last = keras.config.image_data_format() == "channels_last"
        features = features.mean((1, 2) if last else (2, 3))
    features = features.reshape(len(features), -1)
    if not np.isfinite(features).all():
        raise ValueError(f"The features of `{name}` are not finite: look at images and model.")
    return features
