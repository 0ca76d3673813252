"""Schedules by hand-computed values, and saved and loaded."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.training import schedules
from keras_cnn_classics.training.schedules import (
    OneCycle,
    ScaledSchedule,
    StaircaseDecay,
    StepDecay,
    WarmUp,
)

SCHEDULES = {
    StepDecay(0.1, [3, 5], factor=2.0): {0: 0.1, 2: 0.1, 3: 0.05, 4: 0.05, 5: 0.025, 99: 0.025},
    StaircaseDecay(0.256, 2.4, 0.97): {0: 0.256, 1: 0.256, 2: 0.256 * 0.97, 7: 0.256 * 0.97**3},
    WarmUp(0.4, 4, start=0.2): {0: 0.08, 1: 0.16, 2: 0.24, 4: 0.4, 9: 0.4},
    WarmUp(StepDecay(0.1, [8]), 10): {0: 0.0, 5: 0.05, 8: 0.008, 10: 0.01, 11: 0.01},
    OneCycle(1.0, 100, pct_start=0.4, div=10.0, div_final=100.0): {
        0: 0.1,
        20: 0.55,
        10: 0.1 + 0.9 * (1 - np.cos(np.pi / 4)) / 2,
        40: 1.0,
        70: 0.01 + 0.99 / 2,
        100: 0.01,
        200: 0.01,
    },
    OneCycle(0.85, 100, div=0.85 / 0.95, div_final=0.85 / 0.95): {0: 0.95, 25: 0.85, 100: 0.95},
    ScaledSchedule(StepDecay(0.1, [3]), 0.5): {2: 0.05, 3: 0.005},
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_values_and_serialization(schedule):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert copy.get_config() == schedule.get_config()
    for step, value in SCHEDULES[schedule].items():
        for number in (step, keras.ops.convert_to_tensor(step)):
            assert float(schedule(number)) == pytest.approx(value, rel=1e-5)
            assert float(copy(number)) == pytest.approx(value, rel=1e-5)


def _used_rates(schedule, steps):
    """The rates of the steps in a compiled training whose every gradient is 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    jit = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.SGD(schedule), lambda y, p: keras.ops.mean(p), jit_compile=jit)
    weights = [model.get_weights()[0].item()]
    for _ in range(steps):
        model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
        weights.append(model.get_weights()[0].item())
    return -np.diff(weights)


def test_the_fall_comes_at_its_step_in_compiled_code():
    # 41 is a number whose reciprocal, times itself, is below 1 in float32.
    staircase, step = StaircaseDecay(0.5, 41, 0.1), StepDecay(0.5, [41])
    for schedule in (staircase, step):
        rates = _used_rates(schedule, 43)
        np.testing.assert_allclose(rates, [0.5] * 41 + [0.05] * 2, atol=1e-5)


def test_epochs_as_steps():
    assert schedules.to_steps(2.4, 5004) == 12010
    with pytest.raises(
        ValueError, match=r"`steps_per_epoch` must be an integer, at least 1\. Received: 0"
    ):
        schedules.to_steps(1, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0.1, [5, 3]), r"`boundaries` must be numbers that rise.*\[5, 3\]"),
        (lambda: StepDecay(0.1, []), "must be numbers that rise"),
        (lambda: StepDecay(0.1, 5), "must be numbers that rise. Received: 5"),
        (lambda: StepDecay(0.1, [5, "9"]), r"`boundaries\[1\]` must be .* Received: '9'"),
        (lambda: StepDecay([0.1], [5]), r"`initial_learning_rate` .* Received: \[0.1\]"),
        (lambda: StepDecay(0.1, [5], factor=0), "`factor` must be .*, above 0. Received: 0"),
        (lambda: StaircaseDecay(0.1, 0, 0.9), "`decay_steps` must be .* Received: 0"),
        (lambda: StaircaseDecay(0.1, 2, float("nan")), "`decay_rate` .* Received: nan"),
        (lambda: WarmUp("cosine", 5), "`schedule` must be a finite number.*'cosine'"),
        (lambda: WarmUp(0.1, 0), "`warmup_steps` must be .* Received: 0"),
        (lambda: WarmUp(0.1, 5, start=1.0), "`start` .*, below 1. Received: 1.0"),
        (lambda: OneCycle(0.1, 10, pct_start=1.0), "`pct_start` .* Received: 1.0"),
        (lambda: OneCycle(0.1, None), "`steps` must be .* Received: None"),
        (lambda: schedules.ScaledSchedule(0.1, 0.5), "`schedule` must be a schedule"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
