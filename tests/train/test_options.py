from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqbraid.errors import OptionsError
from seqbraid.train import TrainingOptions
from seqbraid.train.optimizers import make_optimizer


def rates(per_epoch: int = 4, **options: Any) -> list[float]:
    training = TrainingOptions(learning_rate=1.0, **options)
    return [training.rate(update, per_epoch) for update in range(training.epochs * per_epoch)]


def torch_rates(scheduler: Any, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules_are_those_of_torch() -> None:
    schedulers: dict[str, Any] = {
        "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0),
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=24),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 24),
        "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 8, 0.3),
    }
    for name, scheduler in schedulers.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        expected = torch_rates(scheduler(optimizer), optimizer, 24)
        found = rates(epochs=6, schedule=name, step_epochs=2, step_factor=0.3)
        assert found == pytest.approx(expected, abs=1e-12), name


def test_the_warm_up_rises_in_equal_steps_and_the_schedule_follows() -> None:
    found = rates(epochs=4, warmup_epochs=2.0)
    assert found[:9] == pytest.approx([(1 + k) / 9 for k in range(9)])
    assert found[8:] == [1.0] * 8
    assert rates(epochs=4, warmup_epochs=2.0, schedule="cosine")[8:] == pytest.approx(
        rates(epochs=2, schedule="cosine")
    )


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(1e-6, 10.0))
def test_linear_scaling_keeps_the_rate_a_sequence(batch: int, reference: int, rate: float) -> None:
    options = TrainingOptions(
        batch_size=batch, learning_rate=rate, lr_scaling="linear", reference_batch=reference
    )
    assert options.base_rate / batch == pytest.approx(rate / reference)
    assert TrainingOptions(batch_size=batch, learning_rate=rate).base_rate == rate


def test_nested_levels_halve_the_steps_epoch_by_epoch() -> None:
    options = TrainingOptions(epochs=7, nested_levels=2, nested_epochs=2)
    assert [options.time_coarsening(epoch) for epoch in range(1, 8)] == [4, 4, 2, 2, 1, 1, 1]
    assert {TrainingOptions().time_coarsening(epoch) for epoch in (1, 5, 10)} == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "magic"}, "optimizer is 'magic'; expected one of adam, adamw, sgd, lbfgs"),
        ({"schedule": "x"}, "schedule is 'x'"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"lr_scaling": "cubic"}, "lr_scaling is 'cubic'"),
        ({"epochs": 0}, "epochs is 0; expected a whole number from 1 to 1000000"),
        ({"patience": 0}, "patience is 0; expected a whole number from 1 to 1000000 or None"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected a positive number"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0; expected a positive number"),
        ({"momentum": 1.0}, "momentum is 1.0; expected a number from 0 that is less than 1"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number from 0"),
        ({"optimizer": "lbfgs", "clip_norm": 1.0}, "clipped gradients do not belong"),
        ({"optimizer": "lbfgs", "weight_decay": 0.1}, "L-BFGS has no `weight_decay`"),
        ({"epochs": 2, "warmup_epochs": 3.0}, "a warm-up of 3 epochs is longer than the training of 2"),
        ({"epochs": 4, "nested_levels": 2, "nested_epochs": 2}, "nested iteration takes 4 of 4 epochs"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        TrainingOptions(**options)


def test_optimizers_are_those_of_torch() -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    kinds = {
        "adam": make_optimizer(parameters, TrainingOptions()),
        "adamw": make_optimizer(parameters, TrainingOptions(optimizer="adamw")),
    }
    assert type(kinds["adam"]) is torch.optim.Adam
    assert type(kinds["adamw"]) is torch.optim.AdamW
    sgd = make_optimizer(parameters, TrainingOptions(optimizer="sgd", momentum=0.5, weight_decay=0.1))
    assert type(sgd) is torch.optim.SGD
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.5, 0.1)
    assert type(make_optimizer(parameters, TrainingOptions(optimizer="lbfgs"))) is torch.optim.LBFGS
