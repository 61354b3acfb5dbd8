"""Attention over a stream of rows, and its gradients, are those of every row alone, whatever is left out or shared."""

import pytest
import torch
from torch import Tensor

from plain import by_hand, made
from tunesmith.contracts import Tokens
from tunesmith.models import attention
from tunesmith.models.attention import Terms, attend
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream, stream_of

CPU = torch.device("cpu")


def stream(lengths: list[int]) -> Stream:
    return stream_of([Tokens(tuple(range(n))) for n in lengths], 0, CPU)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (None, 1.5), (5, 1.5)])
@pytest.mark.parametrize("lengths", [[7], [3, 4, 5, 20], [6, 6, 6], [2, 150, 150, 160], [400, 1]])
def test_attention_and_its_gradients_are_those_of_every_row_alone(
    causal: bool, window: int | None, softcap: float | None, lengths: list[int]
) -> None:
    total = sum(lengths)
    q, k, v = made(1, total, 4, 8), made(2, total, 2, 8), made(3, total, 2, 8)
    pull = made(4, total, 4, 8)
    terms = Terms(causal, 0.3, window, softcap=softcap)
    ours = [x.clone().requires_grad_() for x in (q, k, v)]
    plain = [x.clone().requires_grad_() for x in (q, k, v)]
    out = attend(*ours, stream(lengths), terms)
    wanted = by_hand(*plain, lengths, terms)
    assert torch.allclose(out, wanted, atol=1e-12)
    for a, b in zip(torch.autograd.grad(out, ours, pull), torch.autograd.grad(wanted, plain, pull), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("lengths", [[3, 4, 5, 20], [6, 6, 6], [150, 150]])
def test_what_a_gpu_runs_in_full_precision_is_the_same_attention(lengths: list[int]) -> None:
    total = sum(lengths)
    q, k, v = made(1, total, 4, 8), made(2, total, 2, 8), made(3, total, 2, 8)
    for terms in (Terms(True, 0.3), Terms(False, 0.3), Terms(True, 0.3, 5)):
        found = attention.segment_by_segment(q, k, v, stream(lengths), terms)
        assert torch.allclose(found, by_hand(q, k, v, lengths, terms), atol=1e-12)


def test_attention_at_some_tokens_only_is_the_attention_of_all_there() -> None:
    lengths = [5, 9, 30, 1]
    total = sum(lengths)
    q, k, v = made(1, total, 4, 8), made(2, total, 2, 8), made(3, total, 2, 8)
    places = (0, 7, 8, 20, 21, 44)  # two rows in part, one by its last token
    index = torch.tensor(places)
    pull = made(4, len(places), 4, 8)
    terms = Terms(True, 0.3)
    some = [q[index].clone().requires_grad_(), k.clone().requires_grad_(), v.clone().requires_grad_()]
    every = [x.clone().requires_grad_() for x in (q, k, v)]
    out = attend(*some, stream(lengths), terms, kept=Look(index, places))
    wanted = by_hand(*every, lengths, terms)[index]
    assert torch.allclose(out, wanted, atol=1e-12)
    dq, dk, dv = torch.autograd.grad(out, some, pull)
    whole = torch.autograd.grad(wanted, every, pull)
    assert torch.allclose(dq, whole[0][index], atol=1e-12)
    assert torch.allclose(dk, whole[1], atol=1e-12) and torch.allclose(dv, whole[2], atol=1e-12)


HEAD, MIDDLE = tuple(range(9)), tuple(range(20, 31))
ENDS = [(50, 51), (52,) * 130, (53,) * 130, (*MIDDLE, 54), MIDDLE + (55,) * 7, MIDDLE + (56,) * 66, (*(52,) * 40, 63)]
ALIKE = [(60, 61, 62), *(HEAD + end for end in ENDS)]
"""Rows that begin alike in nested groups, short and long behind it, and one that does not."""


@pytest.mark.parametrize("window", [None, 6, 15, 60])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_to_a_shared_beginning_and_its_gradients_are_those_of_every_row_alone(
    window: int | None, softcap: float | None, some: bool, dtype: torch.dtype
) -> None:
    shared = stream_of([Tokens(row) for row in ALIKE], 0, CPU, share=True)
    assert shared.places is not None and max(len(segment.path) for segment in shared.segments) >= 2
    lengths = [len(row) for row in ALIKE]
    total = len(shared.ids)
    assert total < sum(lengths) - 60
    looked = list(range(total)) if not some else [p for p in range(total) if p % 5 == 1]
    index = torch.tensor(looked)
    there = torch.isin(shared.places, index)
    q, k, v = (made(n, total, heads, 8).to(dtype).double() for n, heads in ((1, 4), (2, 2), (3, 2)))
    pull = made(4, sum(lengths), 4, 8)[there]
    terms = Terms(True, 0.3, window, softcap=softcap)
    plain = [x.clone().requires_grad_() for x in (q, k, v)]
    wanted = by_hand(*(x[shared.places] for x in plain), lengths, terms)[there]
    ours = [x.to(dtype).requires_grad_() for x in (q[index], k, v)]
    out = attend(*ours, shared, terms, kept=Look(index, tuple(looked)) if some else None)
    back = torch.full((total,), -1).scatter(0, index, torch.arange(len(looked)))
    found = out[back[shared.places[there]]]
    assert out.dtype == dtype
    close = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 0.02}[dtype]
    assert float((found - wanted).detach().norm() / wanted.detach().norm()) < close
    grads = torch.autograd.grad((found.double() * pull).sum(), ours)
    whole = torch.autograd.grad((wanted * pull).sum(), plain)
    for a, b in zip(grads, (whole[0][index], whole[1], whole[2]), strict=True):
        assert float((a - b).norm() / b.norm()) < close


def test_dropout_of_attention_scales_what_it_keeps_and_its_gradient_is_that_of_its_draw() -> None:
    """Against numbers: the draw is the same for the same seed, so the function is smooth between its draws."""
    lengths = [4, 6]
    q, k, v = (made(n, 10, 2, 4).requires_grad_() for n in (1, 2, 3))

    def run(*qkv: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attend(*qkv, stream(lengths), Terms(False, 0.5, None, 0.4))

    assert not torch.allclose(run(q, k, v), attend(q, k, v, stream(lengths), Terms(False, 0.5)))
    assert torch.autograd.gradcheck(run, (q, k, v), eps=1e-6, atol=1e-7)
