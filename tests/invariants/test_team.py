"""Trials that train together over one frozen base learn as each does alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import samples
import tiny
from tunesmith import recipefile
from tunesmith.errors import NotFinite, RecipeError, TunesmithError
from tunesmith.events import Updated
from tunesmith.models import bodies, crew
from tunesmith.models.crew import Asked
from tunesmith.models.matmul import BLAS
from tunesmith.models.stream import Stream
from tunesmith.prepare import prepare
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.train import team, trunk
from tunesmith.train.loop import Member, train
from tunesmith.train.optimizer import make_optimizer
from tunesmith.train.team import train_team

TRIALS: list[dict[str, Any]] = [
    {"train__steps": 4, "train__batch_size": 8, "train__seed": 1},
    {"train__steps": 6, "train__batch_size": 5, "train__seed": 2, "train__learning_rate": 3e-3, "train__clip": 0.05},
    {"train__steps": 3, "train__batch_size": 16, "train__seed": 3, "train__optimizer": "sgd", "train__warmup": 2},
]
"""Three that differ in all that may differ but the adapters."""
RANKS = (2, 4, 3)
OWN, BUDGET = 150, 250
"""Tokens of a micro-batch of one, and of all: so small that some updates are cut, and not all fit into one stream."""


@dataclass
class Seen:
    """What a member learned."""

    losses: list[float] = field(default_factory=list)
    first: Tensor = field(default_factory=lambda: torch.empty(0))
    """The whole gradient of its first update."""
    weights: Tensor = field(default_factory=lambda: torch.empty(0))
    moved: float = 0.0
    ended: TunesmithError | None = None


def member(
    model: Path, rows: Path, tmp_path: Path, trial: dict[str, Any], *, double: bool = True, budget: int = OWN
) -> Member:
    """A trial on a net of its own."""
    given = {key: value for key, value in trial.items() if not key.startswith("model__")}
    values = tiny.recipe_values(model, rows, tmp_path, **{"train__learning_rate": 1e-2, **given})
    del values["train"]["epochs"]
    choice = {key.removeprefix("model__"): value for key, value in trial.items() if key.startswith("model__")}
    values["model"] = {"name": str(model), **choice}
    made = prepare(recipefile.build(values))
    if double:
        made.model.net.double()
        made.model.matmul = BLAS  # the other has streams of its own lengths
    keys = made.recipe.train
    optimizer = make_optimizer(
        made.model.learned(), made.model.fresh, *made.rates(), keys.weight_decay, kind=keys.optimizer,
        share=made.share_of,
    )  # fmt: skip
    return Member(made.model, made.task, made.batches(budget), optimizer, made.schedule(), 10**9, dict)


def trials(
    model: Path, rows: Path, tmp_path: Path, method: dict[str, Any] | None = None, *, double: bool = True, **more: Any
) -> list[Member]:
    """The three, of one method and, where that leaves it open, of three ranks."""
    given = [{"rank": rank, **(method or {}), "name": "lora"} for rank in RANKS]
    return [
        member(model, rows, tmp_path, {**trial, "method": own, **more}, double=double)
        for trial, own in zip(TRIALS, given, strict=True)
    ]


def watched(one: Member, seen: Seen) -> Member:
    """The same, noting its first gradient."""
    parameters = [p for _, p in one.model.learned()]

    def shape(step: int) -> None:
        if step == 0:
            seen.first = torch.cat([torch.as_tensor(p.grad).detach().flatten().clone() for p in parameters])

    return replace(one, shape=shape)


def weights(one: Member) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for _, p in one.model.learned()])


def alone(members: Sequence[Member]) -> list[Seen]:
    found = []
    for one in members:
        seen, start = Seen(), weights(one)
        own = watched(one, seen)
        updates = train(
            own.model, own.task, own.batches, own.optimizer, own.schedule, start=own.start, every=own.every,
            evaluate=own.evaluate, shape=own.shape, skip=own.skip,
        )  # fmt: skip
        seen.losses = [updated.losses.get("loss", float("nan")) for updated in updates]
        seen.weights = weights(one)
        seen.moved = float((seen.weights - start).norm())
        found.append(seen)
    return found


def together(members: Sequence[Member], **more: Any) -> list[Seen]:
    found, starts = [Seen() for _ in members], [weights(one) for one in members]
    own = [watched(one, seen) for one, seen in zip(members, found, strict=True)]
    for number, made in train_team(own, **more):
        assert found[number].ended is None, "a member that is out is heard of no more"
        if isinstance(made, Updated):
            found[number].losses.append(made.losses.get("loss", float("nan")))
        else:
            found[number].ended = made
    for one, seen, start in zip(members, found, starts, strict=True):
        seen.weights = weights(one)
        seen.moved = float((seen.weights - start).norm())
    return found


def the_same(found: Sequence[Seen], wanted: Sequence[Seen], close: float = 1e-8) -> None:
    """Losses and weights, of members that moved and differ from each other."""
    for mine, theirs in zip(found, wanted, strict=True):
        assert len(mine.losses) == len(theirs.losses) > 0
        assert mine.losses == pytest.approx(theirs.losses, rel=close)
        assert mine.moved > 5e-3
        assert float((mine.weights - theirs.weights).norm()) <= close * mine.moved
    assert len({seen.losses[-1] for seen in found}) == len(found)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The tokens of each member in every stream that ran."""
    ran: list[list[int]] = []
    run = team.states_of

    def states_of(asked: Sequence[Asked]) -> list[Tensor]:
        ran.append([len(one.stream.ids) for one in asked])
        return run(asked)

    monkeypatch.setattr(team, "states_of", states_of)
    yield ran
    assert max(map(len, ran)) > 1, "nothing ran together"


KINDS: list[dict[str, Any]] = [
    {},
    {"scaling": "root", "targets": ["query", "q_proj"], "dropout": 0.3},
    {"kind": "dora", "dropout": 0.2},
    {"init": "pissa", "b_rate": 4},
]


@pytest.mark.parametrize("method", KINDS, ids=str)
@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_each_of_a_team_learns_what_it_learns_alone(
    family: str,
    method: dict[str, Any],
    request: pytest.FixtureRequest,
    labels_csv: Path,
    chats_jsonl: Path,
    tmp_path: Path,
    streams: list[list[int]],
) -> None:
    """In double precision, by losses and weights; the encoder drops out in every block and in its head, the decoder
    has beginnings of rows that stand in the stream once."""
    model, rows = request.getfixturevalue(family), labels_csv if family == "encoder" else chats_jsonl
    if "targets" in method:
        method = {**method, "targets": method["targets"][family == "decoder" :][:1]}
    members = trials(model, rows, tmp_path, method)
    the_same(together(members, budget=BUDGET), alone(trials(model, rows, tmp_path, method)))
    assert members[0].model.draws() == (family == "encoder" or "dropout" in method)
    assert all(sum(sizes) <= BUDGET for sizes in streams), "more than the budget at once"


@pytest.mark.parametrize(
    "kind", ["distilbert", "modernbert", "gpt2", "gpt_neox", "olmo2", "phi", "phi3", "gemma3_text"]
)
def test_nets_of_every_shape_learn_together_what_they_learn_alone(
    kind: str, chats_jsonl: Path, labels_csv: Path, tmp_path: Path, streams: list[list[int]]
) -> None:
    reads = "bert" in kind
    folder = (tiny.make_encoder if reads else tiny.make_decoder)(tmp_path / kind, kind)
    given = {"model__dropout": 0.2, "method": {"name": "lora", "rank": 2}}

    def members() -> list[Member]:
        return [member(folder, labels_csv if reads else chats_jsonl, tmp_path, {**t, **given}) for t in TRIALS[:2]]

    the_same(together(members(), budget=1000), alone(members()))


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_the_first_gradients_in_single_precision_are_those_alone(
    family: str, request: pytest.FixtureRequest, labels_csv: Path, chats_jsonl: Path, tmp_path: Path,
    streams: list[list[int]],
) -> None:  # fmt: skip
    model, rows = request.getfixturevalue(family), labels_csv if family == "encoder" else chats_jsonl
    found = together(trials(model, rows, tmp_path, double=False), budget=1000)
    for mine, theirs in zip(found, alone(trials(model, rows, tmp_path, double=False)), strict=True):
        assert float(theirs.first.norm()) > 1e-3
        assert float((mine.first - theirs.first).norm() / theirs.first.norm()) < 5e-6
    assert max(map(len, streams)) == 3


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dropout in the attention of a decoder": ("decoder", "chat", {"model__dropout": 0.2}),
    "noise on the embeddings": ("decoder", "chat", {"train__noise": 5.0}),
    "two runs through the trunk": (
        "encoder",
        "text-classification",
        {"task": {"name": "text-classification", "r_drop": 1.0}},
    ),
    "the first token": ("encoder", "text-classification", {"model__pooling": "cls"}),
    "the last token": ("decoder", "text-classification", {}),
    "a mean whose weights are learned": ("encoder", "text-classification", {"model__pooling": "attention"}),
    "tokens that are hidden": ("encoder", "fill-mask", {}),
    "labels of tokens": ("encoder", "token-classification", {}),
    "two texts, and which of them a token is of": ("encoder", "question-answering", {}),
}
"""What is asked of the trunk: (fixture, task, changes of the recipe)."""


@pytest.mark.parametrize("name", CASES)
def test_whatever_a_task_asks_of_the_trunk_is_answered_as_alone(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, streams: list[list[int]]
) -> None:
    family, task, changes = CASES[name]
    rows = samples.write(task, tmp_path)
    model = request.getfixturevalue(family)

    def members() -> list[Member]:
        given = {"task": task, "method": {"name": "lora", "rank": 2}, **changes}
        return [member(model, rows, tmp_path, {**trial, **given}) for trial in TRIALS[:2]]

    the_same(together(members(), budget=1000), alone(members()))


def test_blocks_that_are_computed_again_draw_what_they_drew(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    def members() -> list[Member]:
        made = trials(encoder, labels_csv, tmp_path, {"dropout": 0.2})
        for one in made:
            one.model.checkpointing = True
        return made

    plain = together(trials(encoder, labels_csv, tmp_path, {"dropout": 0.2}))
    the_same(together(members()), plain, 1e-12)


def test_what_frozen_blocks_made_of_rows_is_one_table_for_all(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout in the blocks that learn; a member without the table runs its first blocks by itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wanted = alone(trials(encoder, labels_csv, tmp_path, {"layers": 1}))
    members = trials(encoder, labels_csv, tmp_path, {"layers": 1})
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, method={"name": "lora", "layers": 1})
    prepared = prepare(recipefile.build(values))
    prepared.model.net.double()
    prepared.model.train()
    plan = replace(prepared.trunk_plan(), place="memory")
    assert plan.blocks == 1
    monkeypatch.setitem(trunk._DTYPES, "fp32", torch.float64)
    table = trunk.fill(prepared.model, plan, prepared.seen_rows(), "x")
    for one in members[:2]:
        one.model.kept = table
    ran: list[tuple[int, int]] = []
    run = bodies.run

    def noted(body: Any, stream: Stream, depth: int, look: Any, start: tuple[int, Tensor], **more: Any) -> Tensor:
        assert stream.crew is not None
        ran.append((len(stream.crew.spans), start[0]))
        return run(body, stream, depth, look, start, **more)

    monkeypatch.setattr(bodies, "run", noted)
    the_same(together(members, budget=1000), wanted)
    assert (3, 1) in ran and (3, 0) not in ran, "the frozen block ran for all"


def test_members_that_leave_do_not_move_the_others(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    """The first, by whose blocks all run, after two updates; the last has fewer to make."""
    updates = [0, 0, 0]
    members = trials(encoder, labels_csv, tmp_path)
    for number, made in train_team(members, stop=lambda number: number == 0 and updates[0] == 2):
        assert isinstance(made, Updated) and made.step == updates[number] + 1
        updates[number] += 1
    assert updates == [2, 6, 3]
    for mine, theirs in zip(members[1:], alone(trials(encoder, labels_csv, tmp_path)[1:]), strict=True):
        assert theirs.moved > 1e-2
        assert float((weights(mine) - theirs.weights).norm()) < 1e-12
    assert list(train_team(members, stop=lambda number: True)) == []


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_one_that_is_not_finite_fails_alone(
    family: str, request: pytest.FixtureRequest, labels_csv: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    """Its first weights are no numbers, among those of others in one stream."""
    model, rows = request.getfixturevalue(family), labels_csv if family == "encoder" else chats_jsonl
    members = trials(model, rows, tmp_path)
    first = next(p for name, p in members[1].model.trained() if name.endswith("lora_B"))
    with torch.no_grad():
        first.fill_(float("nan"))
    found = together(members, budget=1000)
    assert isinstance(found[1].ended, NotFinite) and found[1].losses == []
    assert found[1].ended.rows == members[1].batches.places(0)
    others = trials(model, rows, tmp_path)
    the_same([found[0], found[2]], alone([others[0], others[2]]))


def test_an_update_that_is_not_finite_is_left_out_as_alone(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TextClassification.loss

    def loss(task: TextClassification, model: Any, examples: Any) -> Any:
        made = real(task, model, examples)
        if any(example.row_id == 3 for example in examples):
            made = {k: type(v)(v.total * float("inf"), v.weight) for k, v in made.items()}
        return made

    monkeypatch.setattr(TextClassification, "loss", loss)

    def members() -> list[Member]:
        made = trials(encoder, labels_csv, tmp_path, train__steps=9)
        return [replace(one, skip=True) for one in made]

    found, wanted = together(members()), alone(members())
    for mine, theirs in zip(found, wanted, strict=True):
        assert any(loss != loss for loss in theirs.losses) and mine.ended is None
        assert mine.losses == pytest.approx(theirs.losses, rel=1e-8, nan_ok=True)
        assert float((mine.weights - theirs.weights).norm()) < 1e-10


def test_a_row_that_cannot_be_read_ends_only_its_own_trial(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = trials(encoder, labels_csv, tmp_path)
    real, lost = TextClassification.loss, RecipeError("a row is gone")

    def loss(task: TextClassification, model: Any, examples: Any) -> Any:
        if model is members[1].model:
            raise lost
        return real(task, model, examples)

    wanted = alone([trials(encoder, labels_csv, tmp_path)[k] for k in (0, 2)])
    monkeypatch.setattr(TextClassification, "loss", loss)
    found = together(members)
    assert found[1].ended is lost and not found[1].losses
    the_same([found[0], found[2]], wanted)


def test_the_order_of_the_members_is_no_matter(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    members = trials(encoder, labels_csv, tmp_path)
    turned = together([members[k] for k in (2, 0, 1)], budget=1000)
    the_same([turned[k] for k in (1, 2, 0)], together(trials(encoder, labels_csv, tmp_path), budget=1000), 1e-12)


def test_one_member_is_a_run_to_the_bit(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    """In single precision, with dropout."""
    trial = {**TRIALS[0], "method": {"name": "lora", "rank": 2}}
    (mine,) = together([member(encoder, labels_csv, tmp_path, trial, double=False)])
    (theirs,) = alone([member(encoder, labels_csv, tmp_path, trial, double=False)])
    assert mine.losses == theirs.losses and torch.equal(mine.weights, theirs.weights) and mine.moved > 1e-2


def test_in_half_precision_the_masters_of_each_learn_as_alone(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    found = together(trials(encoder, labels_csv, tmp_path, double=False, train__precision="bf16"), budget=1000)
    members = trials(encoder, labels_csv, tmp_path, double=False, train__precision="bf16")
    for one, mine, theirs in zip(members, found, alone(members), strict=True):
        assert one.model.masters and mine.weights.dtype == torch.float32 and mine.moved > 1e-2
        assert mine.losses == pytest.approx(theirs.losses, rel=1e-2)
        assert float((mine.first - theirs.first).norm() / theirs.first.norm()) < 1e-2


def test_a_device_without_memory_for_all_gets_smaller_streams(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ran = team.states_of, []

    def scarce(asked: Sequence[Asked]) -> list[Tensor]:
        if sum(len(one.stream.ids) for one in asked) > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        ran.append(len(asked))
        return run(asked)

    wanted = alone(trials(encoder, labels_csv, tmp_path))
    monkeypatch.setattr(team, "states_of", scarce)
    the_same(together(trials(encoder, labels_csv, tmp_path), budget=1000), wanted)
    assert max(ran) > 1
    monkeypatch.setattr(team, "states_of", lambda asked: scarce([*asked, *asked, *asked, *asked, *asked]))
    with pytest.raises(torch.OutOfMemoryError):
        together(trials(encoder, labels_csv, tmp_path))


def test_looks_at_the_validation_rows_are_of_the_member_after_its_update(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    members = trials(encoder, labels_csv, tmp_path)
    looks: list[list[float]] = [[], [], []]

    def looking(number: int) -> Callable[[], dict[str, float]]:
        def look() -> dict[str, float]:
            members[number].model.net.eval()
            looks[number].append(float(weights(members[number]).sum()))
            return {"sum": looks[number][-1]}

        return look

    every = [replace(one, every=number + 1, evaluate=looking(number)) for number, one in enumerate(members)]
    told: list[list[float]] = [[], [], []]
    for number, made in train_team(every):
        assert isinstance(made, Updated)
        if made.scores is not None:
            told[number].append(made.scores["sum"])
            assert told[number][-1] == float(weights(members[number]).sum())
    assert told == looks and [len(own) for own in looks] == [4, 3, 1]
    for mine, theirs in zip(members, alone(trials(encoder, labels_csv, tmp_path)), strict=True):
        assert float((weights(mine) - theirs.weights).norm()) < 1e-10


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_united_models_hold_one_base_and_answer_as_before(
    family: str, request: pytest.FixtureRequest, labels_csv: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    model, rows = request.getfixturevalue(family), labels_csv if family == "encoder" else chats_jsonl
    members = trials(model, rows, tmp_path, {"init": "pissa"}, double=False)

    def answers(one: Member) -> float:
        one.model.net.eval()
        with torch.no_grad():
            return float(one.task.loss(one.model, one.batches.chosen(0))["loss"].total)

    before = [answers(one) for one in members]
    crew.unite([one.model for one in members])
    assert [answers(one) for one in members] == before
    places = [{p.data_ptr() for p in one.model.net.parameters() if not p.requires_grad} for one in members]
    assert places[0] == places[1] == places[2] and len(places[0]) > 10
    own = [{p.data_ptr() for _, p in one.model.trained()} for one in members]
    assert not own[0] & own[1] and not own[0] & places[0]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another method": ({"method": "full"}, {}, "learns in the trunk"),
    "top layers": ({"method": "top-layers"}, {}, "learns in the trunk"),
    "no adapters": ({"method": "head"}, {}, "have low-rank adapters of their own"),
    "bottlenecks": ({"method": "bottleneck"}, {}, "stock blocks|learns in the trunk"),
    "factors": ({"method": "ia3"}, {}, "learns in the trunk"),
    "prompts": ({"method": "prompt-tuning"}, {}, "learns in the trunk"),
    "another library's adapters": (
        {"method": {"name": "peft", "type": "lora"}},
        {},
        "stock blocks|learns in the trunk",
    ),
    "new tokens": ({"model__new_tokens": ["zebra"]}, {}, "learns in the trunk"),
    "a joint loss": ({"task": {"name": "text-classification", "contrast": 1}}, {}, "all rows of an update together"),
    "other layers": ({}, {"method": {"name": "lora", "rank": 2, "targets": ["query"]}}, "at other layers"),
    "other dropout": ({}, {"model__dropout": 0.3}, "drop out, differently"),
    "other blocks": ({}, {"model__blocks": 1}, "not of one shape"),
}
"""(changes of both trials, changes of the second, what is said)"""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_train_together_is_refused_before_anything_is_changed(
    name: str, encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    both, second, said = REFUSED[name]
    given = {"method": {"name": "lora", "rank": 2}, **both}
    changes = (given, {**given, **second})
    members = [member(encoder, labels_csv, tmp_path, {**TRIALS[k], **changes[k]}) for k in range(2)]
    before = [[id(p) for p in one.model.net.parameters()] for one in members]
    with pytest.raises(RecipeError, match=said) as caught:
        next(train_team(members))
    assert caught.value.hint
    assert [[id(p) for p in one.model.net.parameters()] for one in members] == before


def test_nets_whose_blocks_are_not_ours_are_refused(labels_csv: Path, tmp_path: Path) -> None:
    folder = tiny.make_encoder(tmp_path / "deberta-v2", "deberta-v2")
    with pytest.raises(RecipeError, match="stock blocks"):
        next(train_team(trials(folder, labels_csv, tmp_path, task="text-classification")))


def test_other_pretrained_weights_are_refused_by_name(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    members = trials(encoder, labels_csv, tmp_path)
    with torch.no_grad():
        next(p for p in members[2].model.base.parameters() if not p.requires_grad)[0, 0] += 1e-9
    with pytest.raises(RecipeError, match="word_embeddings"):
        next(train_team(members))
