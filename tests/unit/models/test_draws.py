"""Masks of dropout: the rate they are asked for, a mean of one, and bits that the seed decides."""

import pytest
import torch

from tunesmith.models.draws import dropout, kept


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1e-3])
def test_a_mask_drops_as_often_as_it_is_told_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    mask = kept(torch.empty(1000, 1003), rate)
    share = float((mask == 0).double().mean())
    deviation = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs(share - rate) < 4 * deviation + 1 / 2**16
    assert float(mask.double().mean()) == pytest.approx(1, abs=4 * deviation / (1 - rate))
    assert len(mask.unique()) == 2


def test_the_four_draws_of_a_number_are_independent() -> None:
    torch.manual_seed(1)
    lanes = (kept(torch.empty(200_000, 4), 0.3) == 0).double()
    assert torch.allclose(lanes.mean(0), torch.full((4,), 0.3, dtype=torch.float64), atol=0.005)
    assert torch.allclose(torch.corrcoef(lanes.T), torch.eye(4, dtype=torch.float64), atol=0.01)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 7)])
def test_the_same_seed_gives_the_same_mask_of_any_shape(shape: tuple[int, ...]) -> None:
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(kept(torch.empty(shape), 0.5))
    assert masks[0].shape == shape and torch.equal(masks[0], masks[1])


def test_the_gradient_of_dropout_is_its_mask() -> None:
    x = torch.randn(40, 8, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(2)
    made = dropout(x, 0.25)
    torch.manual_seed(2)
    assert torch.equal(torch.autograd.grad(made.sum(), x)[0], kept(x, 0.25))
