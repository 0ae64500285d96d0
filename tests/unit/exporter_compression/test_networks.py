"""Folding, equalization, rounding and the training loop on small networks with random weights."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from modelyard.core.errors import Cancelled, FailedPrecondition
from modelyard.exporter.worker.equalize import channel_groups, equalized
from modelyard.exporter.worker.fake_quantize import (
    ActivationRange,
    Bound,
    finish,
    least_error_range,
    prepare,
    rounded,
    rounded_weight,
    set_state,
)
from modelyard.exporter.worker.finetune import Budget, Examples, Finetuned, Listener, finetune, rate_factor
from modelyard.exporter.worker.fold import copied, folded, scaled_pixels, weighted_layers
from modelyard.exporter.worker.pruning import packed_size, prune_channels, prune_weights, ramp, zero_share, zero_smallest
from modelyard.exporter.worker.qat import quantization_aware
from modelyard.exporter.worker.sensitivity import layers_that_hurt
from modelyard.recipes.build_image import ServedImageModel, build
from tests.support.small_training import Ticks, stripes

SIDE = 16


def served(architecture: str = "modelyard:micronet", side: int = SIDE, channels: int = 1) -> ServedImageModel:
    """A network with random weights whose batch norms have seen something."""
    torch.manual_seed(0)
    network = build(architecture, classes=3, channels=channels, height=side, width=side)
    model = ServedImageModel(network, (0.4,) * channels, (0.3,) * channels).train()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 1:
                value.add_(0.3 * torch.rand_like(value) * (1 if "weight" in name else -1))
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the plain mean of what it saw
        model(torch.randint(0, 256, (16, side, side, channels), dtype=torch.uint8))
    return model.eval()


def pictures(count: int = 8, side: int = SIDE, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, side, side, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def some(count: int = 96) -> Examples:
    return Examples(*stripes(count))


def largest_difference(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((one(x) - other(x)).abs().max())


@pytest.mark.parametrize("architecture", ["modelyard:micronet", "timm:mobilenetv3_small_050", "timm:tf_efficientnet_lite0"])
def test_a_folded_network_answers_as_before_and_has_no_batch_norm(architecture: str) -> None:
    model = served(architecture, 32, 3)
    made = folded(model)
    assert largest_difference(model, made, pictures(4, 32, 3)) < 1e-5
    assert not any("BatchNorm" in type(layer).__name__ for layer in made.modules())
    assert set(weighted_layers(made.module)) == set(weighted_layers(model.module))
    assert any("BatchNorm" in type(layer).__name__ for layer in model.modules()), "the model itself must stay as it is"


class Twice(nn.Module):
    """A convolution that is called at two places, each with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(1, 1, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(1), nn.BatchNorm2d(1)])
        self.head = nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = norm(self.shared(x))
        return cast(Tensor, self.head(x.mean((2, 3))))


def test_a_layer_that_is_called_twice_is_neither_folded_nor_equalized() -> None:
    torch.manual_seed(0)
    model = ServedImageModel(Twice(), (0.5,), (0.2,)).train()
    model(pictures())
    model.eval()
    made = equalized(model)
    assert largest_difference(model, made, pictures()) < 1e-6
    assert channel_groups(cast(fx.GraphModule, made.module)) == []


class Branching(nn.Module):
    """Its way depends on the values it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.mean() > 0 else x.amax((2, 3))


def test_a_network_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        folded(ServedImageModel(Branching(), (0.5,), (0.2,)))
    assert caught.value.reason == "NOT_TRACEABLE"
    assert "Branching" in caught.value.message


# Equalization


@pytest.mark.parametrize("architecture", ["modelyard:micronet", "timm:resnet10t", "timm:mobilenetv2_035"])
def test_an_equalized_network_answers_as_before(architecture: str) -> None:
    model = served(architecture, 32, 3)
    assert largest_difference(model, equalized(model), pictures(4, 32, 3)) < 1e-5


def test_around_a_residual_block_both_makers_and_both_takers_share_their_factors() -> None:
    made = folded(served())
    groups = channel_groups(cast(fx.GraphModule, made.module))
    assert sorted((len(group.makers), len(group.takers)) for group in groups) == [(1, 1), (1, 1), (1, 1), (2, 2), (2, 2)]


def test_channels_of_a_thousand_times_the_size_come_back_to_the_size_of_the_others() -> None:
    model = served()
    first = cast(nn.Sequential, model.module.get_submodule("features.1.first"))
    second = cast(nn.Conv2d, model.module.get_submodule("features.1.second.0"))
    with torch.no_grad():
        for value in (cast(nn.BatchNorm2d, first[1]).weight, cast(nn.BatchNorm2d, first[1]).bias):
            value[:2] *= 1000
        second.weight[:, :2] /= 1000
    made = equalized(model)
    assert largest_difference(model, made, pictures()) < 1e-5
    ranges = cast(Tensor, made.module.get_submodule("features.1.first.0").weight).abs().flatten(1).amax(1)
    assert (ranges.max() / ranges.min()).item() < 30


# Rounding


def test_rounded_activations_lie_on_256_numbers_that_hold_zero() -> None:
    x = torch.linspace(-2, 5, 3001)
    found = rounded(x, torch.tensor(-1.0), torch.tensor(3.0))
    numbers = set(found.tolist())
    assert len(numbers) <= 256
    assert float(found.min()) == pytest.approx(-1.0, abs=4 / 255)
    assert float(found.max()) == pytest.approx(3.0, abs=4 / 255)
    assert 0.0 in numbers
    inside = (x > -0.99) & (x < 2.98)
    assert float((found - x)[inside].abs().max()) <= 0.5 * 4 / 255 + 1e-6


def test_gradients_pass_inside_the_range_only() -> None:
    x = torch.tensor([-2.0, 0.5, 4.0], requires_grad=True)
    rounded(x, torch.tensor(-1.0), torch.tensor(3.0)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_rounded_weights_have_a_scale_for_each_channel_and_stay_when_rounded_again() -> None:
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([1e-4, 1.0, 30.0, 0.0]).reshape(4, 1, 1, 1)
    once = rounded_weight(weight)
    scale = weight.abs().flatten(1).amax(1) / 127
    assert bool(((once - weight).abs().flatten(1).amax(1) <= scale * 0.5001).all())
    torch.testing.assert_close(rounded_weight(once), once)


def test_a_range_cuts_a_lone_extreme_off_but_keeps_an_even_spread() -> None:
    generator = np.random.default_rng(0)
    normal = generator.normal(0, 1, 20000).astype(np.float32)
    low, high = least_error_range(np.append(normal, np.float32(1000)), float(normal.min()), 1000.0)
    assert 3 < high < 100
    assert low == pytest.approx(float(normal.min()), rel=0.5)
    even = generator.uniform(0, 1, 20000).astype(np.float32)
    assert least_error_range(even, 0.0, 1.0)[1] == pytest.approx(1.0, abs=0.2)


def test_ranges_stand_where_a_runtime_rounds_and_leave_only_the_bounds_that_matter() -> None:
    made = folded(served())
    network = cast(fx.GraphModule, made.module)
    before = len(list(network.graph.nodes))
    ranges = prepare(network, scaled_pixels(made, pictures(2)))
    assert next(iter(ranges)) == "range_x"
    assert len(ranges) == 12, "input, stem, two convolutions and a sum in each block, two between, mean, head"
    set_state(ranges, ActivationRange.WATCH)
    made(pictures())
    for each in ranges.values():
        each.set(*each.observed)
    ranges["range_mean"].set(0.0, ranges["range_mean"].observed[1] / 4)
    finish(network, slack=1.5)
    assert [name for name, layer in network.named_modules() if isinstance(layer, Bound)] == ["range_mean"]
    assert len(list(network.graph.nodes)) == before + 1


# The loop


def trained(budget: Budget, **options: object) -> tuple[ServedImageModel, Finetuned]:
    model = served()
    student = copied(model)
    with torch.no_grad():
        for value in student.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(3)))
    return student, finetune(student, model, some(), budget, Listener(), **options)  # type: ignore[arg-type]


def test_a_disturbed_network_learns_to_answer_as_the_float_one() -> None:
    model = served()
    student = copied(model)
    with torch.no_grad():
        for value in student.parameters():
            value.add_(0.1 * torch.randn_like(value))
    x = torch.from_numpy(some().pictures)
    labels = model(x).argmax(1).numpy()
    before = mean_difference(model, student, x)
    finetune(student, model, Examples(some().pictures, labels), Budget(60, steps=60), Listener())
    assert mean_difference(model, student, x) < 0.6 * before


def mean_difference(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((one(x) - other(x)).abs().mean())


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other = trained(Budget(1000, steps=4))[0], trained(Budget(1000, steps=4))[0]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    different = trained(Budget(1000, steps=4, seed=1))[0]
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), different.parameters(), strict=True))


def test_time_that_runs_out_shortens_the_plan_and_ends_the_training() -> None:
    clock = Ticks(1.0)
    _, done = trained(Budget(20, steps=1000), clock=clock)
    assert 1 <= done.steps < 40
    assert clock.now <= 25


def test_progress_reaches_the_end_and_a_wish_to_stop_is_heard_at_once() -> None:
    heard: list[tuple[float, float]] = []
    model = served()
    listener = Listener(lambda fraction, eta_s: heard.append((fraction, eta_s)))
    finetune(copied(model), model, some(), Budget(1000, steps=5), listener)
    assert heard[-1] == (1.0, 0.0)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        finetune(copied(model), model, some(), Budget(1000), Listener(should_stop=lambda: next(asked)))
    assert next(asked, None) is None


def test_without_examples_there_is_nothing_to_train() -> None:
    model = served()
    empty = Examples(np.zeros((0, SIDE, SIDE, 1), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(FailedPrecondition) as caught:
        quantization_aware(model, empty, seconds=1)
    assert caught.value.reason == "NO_TRAINING_EXAMPLES"


def test_a_weight_that_is_no_number_is_named_before_anything_is_trained() -> None:
    model = served()
    with torch.no_grad():
        cast(nn.Linear, model.module.get_submodule("head")).weight[0, 0] = torch.nan

    def prune_some() -> None:
        prune_weights(model, some(), 0.3, Budget(60))

    def prune_wide() -> None:
        prune_channels(model, some(), 0.3, Budget(60))

    def round_all() -> None:
        quantization_aware(model, some(), seconds=60)

    for make in (prune_some, prune_wide, round_all):
        with pytest.raises(FailedPrecondition, match=r"head\.weight") as caught:
            make()
        assert caught.value.reason == "BAD_WEIGHTS"


def test_the_rate_is_constant_and_then_falls_to_nothing() -> None:
    factors = [rate_factor(share) for share in np.linspace(0, 1, 21)]
    assert factors[:11] == [1.0] * 11
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-9)


# Training with rounding, and pruning


def test_a_quantization_aware_model_is_a_plain_float_network_with_weights_on_the_grid() -> None:
    model = served()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = quantization_aware(model, some(), seconds=60, steps=6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for layer in weighted_layers(made.module).values():
        weight = cast(Tensor, layer.weight)
        assert isinstance(weight, nn.Parameter)
        torch.testing.assert_close(rounded_weight(weight.detach()), weight.detach())
    assert not any(isinstance(layer, ActivationRange) for layer in made.modules())
    assert made(pictures()).shape == (8, 3)


def test_weights_that_pruning_left_out_stay_out_when_training_with_rounding() -> None:
    pruned = prune_weights(served(), some(), 0.8, Budget(60, steps=4))
    aware = quantization_aware(pruned, some(), seconds=60, steps=4)
    assert zero_share(aware) >= zero_share(pruned) > 0.79


def test_channels_are_cut_in_multiples_and_the_classes_stay() -> None:
    model = served()
    made = prune_channels(model, some(), 0.3, Budget(60, steps=3))
    widths = [len(cast(Tensor, layer.weight)) for layer in weighted_layers(made.module).values()]
    assert widths[-1] == 3
    assert all(width % 4 == 0 for width in widths[:-1])
    assert sum(each.numel() for each in made.parameters()) < 0.7 * sum(each.numel() for each in model.parameters())
    assert made(pictures()).shape == (8, 3)
    assert not made.training


def test_a_share_of_the_weights_becomes_zero_and_the_file_packs_smaller() -> None:
    model = served()
    made = prune_weights(model, some(), 0.8, Budget(60, steps=6))
    assert zero_share(made) == pytest.approx(0.8, abs=0.01)
    packed = [packed_size(b"".join(value.numpy().tobytes() for value in each.state_dict().values())) for each in (model, made)]
    assert packed[1] < 0.5 * packed[0]


def test_the_smallest_of_all_weights_together_are_zeroed() -> None:
    weights = [torch.tensor([1.0, -0.1]), torch.tensor([[0.2, -3.0]])]
    zero_smallest(weights, 0.5)
    assert [weight.tolist() for weight in weights] == [[1.0, 0.0], [[0.0, -3.0]]]
    zero_smallest(weights, 0.0)
    assert weights[0].tolist() == [1.0, 0.0]


def test_pruning_grows_to_its_share_by_the_middle_of_the_training() -> None:
    assert [ramp(share) for share in (0.0, 0.5, 1.0, 2.0)] == [0.0, 0.875, 1.0, 1.0]


def test_the_layer_that_rounding_ruins_is_found() -> None:
    model = served()
    layer = cast(nn.Conv2d, model.module.get_submodule("features.2.0"))
    with torch.no_grad():
        layer.weight[:, 0] *= 3000  # leaves no step for the others, though what it meets is always 0
        for name in ("features.0.1", "features.1.second.1"):
            norm = cast(nn.BatchNorm2d, model.module.get_submodule(name))
            norm.weight[0], norm.bias[0] = 0.0, -1.0
    found = layers_that_hurt(model, some())
    assert found[0] == "features.2.0"
    assert 1 <= len(found) <= 2
