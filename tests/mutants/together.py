"""Defects of trials that train together over one frozen base."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_TEAM = "tests/invariants/test_team.py"
_AS_ALONE = f"{_IN_TEAM}::test_each_of_a_team_learns_what_it_learns_alone"
_ASKED = f"{_IN_TEAM}::test_whatever_a_task_asks_of_the_trunk_is_answered_as_alone"

_TOGETHER = (
    "Trials that train together over one frozen base learn what each learns alone: by its own rows, adapters and "
    "random numbers."
)
_ROOM = "Trials that train together take the memory of one micro-batch, not of one each."

MUTANTS = (
    Mutant(
        name="adapters-at-the-tokens-of-others",
        trap="",
        promise=_TOGETHER,
        file="models/fused.py",
        edits=(
            (
                "for one, span in zip(crew.adapters[module], crew.spans, strict=True):",
                "for one, span in zip(reversed(crew.adapters[module]), crew.spans, strict=True):",
            ),
        ),
        tests=(f"{_AS_ALONE}[encoder-{{}}]", f"{_AS_ALONE}[decoder-{{}}]"),
    ),
    Mutant(
        name="adapters-beside-at-the-tokens-of-others",
        trap="",
        promise=_TOGETHER,
        file="models/crew.py",
        edits=(
            (
                "for one, span, dice in zip(self.adapters[module], self.spans,",
                "for one, span, dice in zip(reversed(self.adapters[module]), self.spans,",
            ),
        ),
        tests=(f"{_AS_ALONE}[encoder-{{'kind': 'dora', 'dropout': 0.2}}]",),
    ),
    Mutant(
        name="spans-of-all-where-some-are-looked-at",
        trap="",
        promise=_TOGETHER,
        file="models/staged.py",
        edits=(("crew = stream.crew if look is None else look.crew\n", "crew = stream.crew\n"),),
        tests=(f"{_AS_ALONE}[decoder-{{}}]",),
    ),
    Mutant(
        name="spans-of-all-where-the-first-token-is-looked-at",
        trap="",
        promise=_TOGETHER,
        file="models/bert.py",
        edits=(("x, crew = x[look.index], look.crew\n", "x, crew = x[look.index], stream.crew\n"),),
        tests=(f"{_ASKED}[the first token]",),
    ),
    Mutant(
        name="masks-of-blocks-drawn-for-all",
        trap="",
        promise=_TOGETHER,
        file="models/crew.py",
        edits=(
            (
                "torch.cat([kept(x[span], rate, dice) for span, dice in zip(self.spans, self.dice, strict=True)])",
                "kept(x, rate, self.dice[0])",
            ),
        ),
        tests=(f"{_AS_ALONE}[encoder-{{}}]",),
    ),
    Mutant(
        name="masks-of-attention-drawn-for-all",
        trap="",
        promise=_TOGETHER,
        file="models/segments.py",
        edits=(("crew.dice[run[0].segment.owner]", "crew.dice[0]"),),
        tests=(f"{_AS_ALONE}[encoder-{{}}]", f"{_ASKED}[dropout in the attention of a decoder]"),
    ),
    Mutant(
        name="the-head-draws-from-the-beginning",
        trap="",
        promise=_TOGETHER,
        file="train/team.py",
        edits=(("            dice.put(dice.state)\n", ""),),
        tests=(f"{_AS_ALONE}[encoder-{{}}]", f"{_ASKED}[two runs through the trunk]"),
    ),
    Mutant(
        name="losses-over-the-labels-of-all",
        trap="1.1",
        promise=_TOGETHER,
        file="train/team.py",
        edits=(
            (
                "        torch.autograd.backward(totals)\n",
                "        torch.autograd.backward([total / len(totals) for total in totals])\n",
            ),
        ),
        tests=(f"{_IN_TEAM}::test_the_first_gradients_in_single_precision_are_those_alone",),
    ),
    Mutant(
        name="one-ends-all",
        trap="2.7",
        promise=_TOGETHER,
        file="train/team.py",
        edits=(
            (
                "                del running[number]\n            yield number, made\n",
                "                running.clear()\n            yield number, made\n",
            ),
        ),
        tests=(f"{_IN_TEAM}::test_one_that_is_not_finite_fails_alone",),
    ),
    Mutant(
        name="all-at-once-whatever-the-budget",
        trap="",
        promise=_ROOM,
        file="train/team.py",
        edits=(("(not seats or size <= room)", "True"),),
        tests=(f"{_AS_ALONE}[encoder-{{}}]",),
    ),
)
