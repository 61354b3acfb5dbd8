"""Retrieval and reranking: the loss of an update, negatives, scores, and what others load."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
import tiny
from tunesmith import DataError, ModelError, RecipeError, RunError, recipefile, run
from tunesmith import load as load_run
from tunesmith.contracts import Example, Row
from tunesmith.prepare import prepare
from tunesmith.retrieving import CANDIDATES, best_first, bm25, gains, identity, ranking, unique
from tunesmith.tasks.retrieval import Retrieval
from tunesmith.train.accumulate import Piece, accumulate


def pair_rows(count: int = 40) -> list[dict[str, Any]]:
    return [{"query": row["query"], "document": row["document"]} for row in samples.search_rows(count)]


def example(number: int, documents: list[int], relevant: list[int]) -> Example:
    from tunesmith.contracts import Tokens

    parts = {"text": Tokens((1,)), **{f"document{k}": Tokens((1,)) for k in range(len(documents))}}
    return Example(number, parts, {"documents": documents, "relevant": relevant, "score": None})


def prepared_for(folder: Path, model: Path, rows: list[dict[str, Any]], **changes: Any) -> Any:
    file = tiny.write_jsonl(folder / "rows.jsonl", rows)
    return prepare(
        recipefile.build(tiny.recipe_values(model, file, folder / "runs", **{"task": "retrieval", **changes}))
    )


@given(st.lists(st.booleans(), min_size=2, max_size=30).filter(any))
@settings(max_examples=40, deadline=None)
def test_ndcg_is_that_of_scikit_learn(hits: list[bool]) -> None:
    from sklearn.metrics import ndcg_score

    order = -np.arange(len(hits), dtype=float)
    theirs = ndcg_score([np.array(hits, dtype=float)], [order], k=10)
    assert gains(hits, sum(hits))[1] == pytest.approx(theirs)


def test_reciprocal_rank_and_recall_of_a_list_by_hand() -> None:
    found = gains([False, True, False, True], 3)
    assert found[[0, 2, 3]] == pytest.approx([1 / 2, 0, 2 / 3])
    assert gains([True] + [False] * 9 + [True], 2)[3] == 0.5  # the eleventh is not seen


@pytest.mark.parametrize("task", ["retrieval", {"name": "retrieval", "sizes": [8]}])
def test_an_update_does_not_depend_on_how_its_batch_was_cut(encoder: Path, tmp_path: Path, task: Any) -> None:
    prepared = prepared_for(tmp_path, encoder, pair_rows(), task=task)
    model, known = prepared.model, prepared.task
    examples = [one for row in prepared.examples for one in row][:12]
    found = []
    for size in (12, 5, 1):
        pieces = [Piece(0, examples[at : at + size]) for at in range(0, 12, size)]
        model.net.eval()  # without dropout
        losses = accumulate(model, known, pieces, known.weights(examples))
        grads = [p.grad.clone() for _, p in model.trained() if p.grad is not None]
        model.forget_gradients()
        found.append((float(losses["loss"]), grads))
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=5e-6)
        for a, b in zip(found[0][1], grads, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=5e-6 * float(a.abs().max() + 1))


def test_the_second_pass_of_a_joint_update_draws_what_the_first_drew(encoder: Path, tmp_path: Path) -> None:
    prepared = prepared_for(tmp_path, encoder, pair_rows())
    model, known = prepared.model, prepared.task
    seen: list[torch.Tensor] = []
    represent = type(known).represent

    class Watched(type(known)):  # type: ignore[misc]
        def represent(self, net: Any, examples: Any) -> torch.Tensor:
            made = represent(self, net, examples)
            seen.append(made.detach().clone())
            return made

    watched = Watched(**asdict(known))
    examples = [one for row in prepared.examples for one in row][:6]
    model.train()
    assert model.draws()
    accumulate(model, watched, [Piece(7, examples[:3]), Piece(8, examples[3:])], watched.weights(examples))
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


def test_a_document_that_is_relevant_is_never_a_negative() -> None:
    """Three queries; the third's document is known to answer the first too, and the second has the first's own."""
    torch.manual_seed(0)
    vectors = torch.randn(7, 6)
    examples = [example(0, [11], [11, 13]), example(1, [11], [11]), example(2, [13, 14], [13])]
    loss = Retrieval(scale=2.0).joint_loss(vectors, examples)["loss"]
    unit = torch.nn.functional.normalize(vectors, dim=1)
    queries, documents = unit[[0, 2, 4]], unit[[1, 3, 5, 6]]
    scores = 2 * queries @ documents.T
    seen = [[0, 3], [1, 2, 3], [2, 0, 3]]  # the first is the wanted one; 11 stands in two places and counts once
    by_hand = sum(-torch.log_softmax(scores[k, columns], 0)[0] for k, columns in enumerate(seen))
    assert float(loss.total) == pytest.approx(float(by_hand), rel=1e-6)
    assert loss.weight == 3


def test_the_loss_of_scored_pairs_counts_pairs_in_the_wrong_order() -> None:
    torch.manual_seed(1)
    vectors = torch.randn(6, 4)
    golds = [0.2, 0.9, 0.9]
    examples = [replace(example(k, [k], [k]), target={"documents": [k], "relevant": [k], "score": golds[k]})
                for k in range(3)]  # fmt: skip
    loss = Retrieval(scale=3.0, scored=True).joint_loss(vectors, examples)["loss"]
    cosines = 3 * torch.nn.functional.cosine_similarity(vectors[::2], vectors[1::2])
    by_hand = torch.log(1 + torch.exp(cosines[0] - cosines[1]) + torch.exp(cosines[0] - cosines[2]))
    assert float(loss.total) == pytest.approx(float(by_hand), rel=1e-6)


def test_mined_negatives_are_near_and_never_relevant(encoder: Path, tmp_path: Path) -> None:
    rows = pair_rows(30)
    rows[1]["query"] = rows[0]["query"]  # two documents are relevant to it
    prepared = prepared_for(tmp_path, encoder, rows, task={"name": "retrieval", "mine": 3, "margin": 0.999})
    for row in prepared.train_rows:
        mined = row["label_negatives"]
        assert len(set(mined)) == len(mined) <= 3
        assert not set(mined) & set(row["label_relevant"])
    assert any(len(row["label_relevant"]) == 2 for row in prepared.train_rows)
    assert sum(len(row["label_negatives"]) for row in prepared.train_rows) > 40
    assert all("label_negatives" not in row.values for row in prepared.splits.rows["test"])


def test_a_run_with_mined_negatives_resumes_to_the_same_bits(encoder: Path, tmp_path: Path) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    values = tiny.recipe_values(encoder, file, tmp_path / "a", task={"name": "retrieval", "mine": 2})
    whole = tiny.last_bits(values)
    assert tiny.last_bits({**values, "run": {"dir": str(tmp_path / "b")}}, stop_at=3) == whole


def test_a_query_of_several_rows_counts_once(encoder: Path, tmp_path: Path) -> None:
    rows = pair_rows(40)
    for row in rows[20:]:
        row["query"] = rows[0]["query"]
    prepared = prepared_for(tmp_path, encoder, rows)
    from tunesmith.train.evaluate import judge

    train = prepared.train_rows
    found = judge(prepared.model, prepared.task, train, answers=None).measured
    assert len(found.rows["query"]) == len({row["query"] for row in train}) < len(train)


def test_every_size_is_scored_and_a_size_that_is_not_shorter_is_refused(encoder: Path, tmp_path: Path) -> None:
    prepared = prepared_for(tmp_path, encoder, pair_rows(), task={"name": "retrieval", "sizes": [4, 16]})
    from tunesmith import stats
    from tunesmith.train.evaluate import judge

    rows = prepared.splits.rows["train"]
    scores = stats.scores(prepared.task, judge(prepared.model, prepared.task, rows, answers=None).measured)
    vectors = prepared.task._embed(prepared.model, [row["query"] for row in rows], "")[:, :4]
    documents = prepared.task.documents(rows)
    there = prepared.task._embed(prepared.model, documents, "")[:, :4]
    there = there / np.linalg.norm(there, axis=1, keepdims=True)
    ndcg = []
    for row, vector in zip(rows, vectors, strict=True):
        made = ranking(documents, there @ vector)["documents"]
        ndcg.append(gains([m["text"] in row["label_relevant"] for m in made], len(row["label_relevant"]))[1])
    assert scores["ndcg_at_10_of_4"].value == pytest.approx(np.mean(ndcg))
    assert {"ndcg_at_10", "ndcg_at_10_of_16"} <= scores.keys()
    with pytest.raises(RecipeError, match="have 32 numbers"):
        prepared_for(tmp_path, encoder, pair_rows(), task={"name": "retrieval", "sizes": [32]})


def test_scored_pairs_are_judged_by_correlation(encoder: Path, tmp_path: Path) -> None:
    rows = [
        {"query": f"the {a} box {n}", "document": f"the {b} box {n}", "score": float(a == b)}
        for n in range(20)
        for a, b in (("red", "red"), ("red", "bill"), ("late", "late"))
    ]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    directory = run.train_recipe(
        recipefile.build(tiny.recipe_values(encoder, file, tmp_path / "runs", task="retrieval", train__epochs=8))
    )
    report = directory.json("report/report")
    assert report["scores"]["test"]["spearman"]["value"] > 0.8
    assert report["headline"] == "pearson" and "common_words" in report["baselines"]
    for odd in ([*rows, {"query": "a", "document": "b"}], [{"query": "a", "document": "b"}, *rows]):
        tiny.write_jsonl(file, odd)
        with pytest.raises(DataError, match="has no score"):
            prepare(recipefile.build(tiny.recipe_values(encoder, file, tmp_path, task="retrieval")))


@pytest.mark.parametrize("scored", [True, False])
def test_a_split_that_has_scores_where_training_has_none_is_refused_before_training(
    encoder: Path, tmp_path: Path, scored: bool
) -> None:
    bare = pair_rows()
    told = [{**row, "score": k / 40} for k, row in enumerate(bare)]
    train, test = (told, bare) if scored else (bare, told)
    values = tiny.recipe_values(encoder, tiny.write_jsonl(tmp_path / "train.jsonl", train), tmp_path, task="retrieval")
    for name in ("validation", "test"):
        values["data"][name] = str(tiny.write_jsonl(tmp_path / f"{name}.jsonl", test))
    with pytest.raises(
        DataError, match="no score and the training rows have" if scored else "a score and the training"
    ):
        prepare(recipefile.build(values))


def test_equal_scores_do_not_favour_what_stands_first_and_no_number_comes_last() -> None:
    texts = [f"text {k}" for k in range(40)]
    firsts = [ranking(texts[k:] + texts[:k], np.zeros(40))["documents"][0]["text"] for k in range(40)]
    assert len(set(firsts)) == 1
    made = ranking(["a", "b", "c"], np.array([np.nan, 0.1, 0.2]))["documents"]
    assert [item["text"] for item in made] == ["c", "b", "a"]
    collapsed = [gains([m["text"] == "text 0" for m in ranking(texts, np.full(40, np.nan))["documents"]], 1)[0]]
    assert collapsed == [0.0] or firsts[0] == "text 0"


def test_columns_that_only_some_rows_have_are_read(encoder: Path, tmp_path: Path) -> None:
    rows = pair_rows()
    rows = [rows[0], *({**row, "negatives": ["a wrong one"]} for row in rows[1:])]
    prepared = prepared_for(tmp_path, encoder, rows)
    held = [row.values.get("label_negatives") for row in prepared.train_rows]
    assert held.count(["a wrong one"]) >= len(held) - 1


def test_one_query_is_on_one_side_whatever_its_candidates_and_a_leak_of_it_is_found(
    encoder: Path, tmp_path: Path
) -> None:
    from tunesmith.doctor.case import Case
    from tunesmith.doctor.examine import examine

    rows = [{**row, "candidates": [row["document"], f"other {k} {copy}"]}
            for k, row in enumerate(pair_rows(30)) for copy in (0, 1)]  # fmt: skip
    for k, row in enumerate(rows):
        row["document"] = [row["document"], f"other {k // 2} {k % 2}"]
    prepared = prepared_for(tmp_path, encoder, rows, task="reranking")
    queries = {name: {row["query"] for row in part} for name, part in prepared.splits.rows.items()}
    assert not queries["train"] & queries["test"] and not queries["train"] & queries["validation"]
    train, test = prepared.splits.rows["train"], prepared.splits.rows["test"]
    found = examine(Case({"train": [*train, replace(test[0], id=len(train))], "test": test}), quick=True)
    assert [finding.kind for finding in found if finding.kind == "leak"] == ["leak"]
    assert not [finding for finding in examine(Case({"train": train}), quick=True) if finding.kind == "duplicate"]


def test_a_changed_corpus_is_noticed_when_a_run_is_resumed(encoder: Path, tmp_path: Path) -> None:
    corpus = tiny.write_jsonl(tmp_path / "corpus.jsonl", [{"text": f"the {word} here"} for word in tiny.WORDS[:30]])
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    task = {"name": "reranking", "corpus": str(corpus)}
    directory, prepared = run.begin(recipefile.build(tiny.recipe_values(encoder, file, tmp_path, task=task)), None, [])
    for _ in zip(range(5), run.go(directory, prepared), strict=False):
        pass
    tiny.write_jsonl(corpus, [{"text": f"{row['query']} wrong"} for row in pair_rows()])
    with pytest.raises(RunError, match="what training reads has changed"):
        run.resume(directory.path)


def test_the_base_reads_as_the_tuned_model_does_where_no_probe_is_fitted(encoder: Path, tmp_path: Path) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    values = tiny.recipe_values(encoder, file, tmp_path, task="retrieval", train__learning_rate=1e-12)
    values["model"] = {"name": str(encoder), "pooling": "cls"}
    report = run.train_recipe(recipefile.build(values)).json("report/report")
    assert report["base"]["test"]["ndcg_at_10"] == report["scores"]["test"]["ndcg_at_10"]
    with pytest.raises(RecipeError, match="no probe"):
        prepare(recipefile.build({**values, "task": "reranking", "model": {"name": str(encoder), "head": "probe"}}))


@pytest.mark.parametrize(
    ("said", "pooling"),
    [({"pooling_mode": "cls"}, "cls"), ({"pooling_mode": "mean"}, "mean"), ({"pooling_mode_cls_token": True}, "cls"),
     ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"), ({"pooling_mode": "max"}, None)],
)  # fmt: skip
def test_a_folder_is_pooled_as_it_says_in_the_old_and_the_new_form(
    tmp_path: Path, said: dict[str, Any], pooling: str | None
) -> None:
    folder = tiny.make_encoder(tmp_path / "m")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **said}))
    if pooling is None:
        with pytest.raises(ModelError, match="pools its states"):
            prepared_for(tmp_path, folder, pair_rows())
    else:
        assert prepared_for(tmp_path, folder, pair_rows()).model.pooling == pooling


def test_a_decoder_without_padding_embeds_for_others_too(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    folder = tiny.make_decoder(tmp_path / "bare")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    values = tiny.recipe_values(folder, file, tmp_path, task="retrieval", method="full", train__epochs=1)
    directory = run.train_recipe(recipefile.build(values))
    queries = ["where is the parcel", "a broken screen and a door"]
    ours = [answer["embedding"] for answer in load_run(directory.path).predict(queries)]
    theirs = SentenceTransformer(str(directory.path / "model"), device="cpu").encode(queries)
    assert np.allclose(ours, theirs, atol=2e-5)


def test_a_broken_corpus_is_named_when_a_file_is_answered(encoder: Path, tmp_path: Path) -> None:
    corpus = tiny.write_jsonl(tmp_path / "corpus.jsonl", [{"text": "a"}, {"text": "b"}])
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    task = {"name": "retrieval", "corpus": str(corpus)}
    values = tiny.recipe_values(encoder, file, tmp_path / "runs", task=task, train__epochs=1, evaluate__compare=False)
    directory = run.train_recipe(recipefile.build(values))
    corpus.unlink()
    with pytest.raises(DataError, match="no such file"):
        load_run(directory.path).predict_file(file, tmp_path / "answers.jsonl")
    with pytest.raises(DataError):
        prepare(recipefile.build(values))


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_sentence_transformers_makes_the_same_embeddings_of_the_saved_folder(
    request: pytest.FixtureRequest, tmp_path: Path, method: str, family: str
) -> None:
    from sentence_transformers import SentenceTransformer

    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    values = tiny.recipe_values(
        request.getfixturevalue(family),
        file,
        tmp_path / "runs",
        method=method,
        task={"name": "retrieval", "query_prefix": "find: "},
        train__epochs=1,
        evaluate__compare=False,
    )
    directory = run.train_recipe(recipefile.build(values))
    queries = ["where is the parcel", "a broken screen"]
    ours = [answer["embedding"] for answer in load_run(directory.path).predict(queries)]
    theirs = SentenceTransformer(str(directory.path / "model"), device="cpu").encode(queries, prompt_name="query")
    assert np.allclose(ours, theirs, atol=2e-5)


def test_a_corpus_file_is_searched_by_queries_alone_and_a_broken_one_is_named(encoder: Path, tmp_path: Path) -> None:
    corpus = tiny.write_jsonl(tmp_path / "corpus.jsonl", [{"text": f"the {word} here"} for word in tiny.WORDS[:30]])
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", pair_rows())
    task = {"name": "retrieval", "corpus": str(corpus)}
    directory = run.train_recipe(recipefile.build(tiny.recipe_values(encoder, file, tmp_path / "runs", task=task)))
    answer = load_run(directory.path).predict(["where is the parcel"])[0]
    assert answer["of"] == len(set(tiny.WORDS[:30])) and len(answer["documents"]) == 10
    scores = directory.json("report/report")["scores"]["test"]
    assert scores["documents_ranked"]["value"] == 30 + scores["ndcg_at_10"]["n"]
    tiny.write_jsonl(corpus, [{"text": "a"}, {"text": " "}])
    with pytest.raises(DataError, match="missing or no text") as caught:
        load_run(directory.path).predict(["where"])
    assert caught.value.where == f"{corpus}:2"


def test_a_cross_encoder_with_a_stock_head_is_that_of_sentence_transformers(encoder: Path, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    file = tiny.write_jsonl(tmp_path / "rows.jsonl", samples.search_rows())
    values = tiny.recipe_values(encoder, file, tmp_path / "runs", task="reranking", train__epochs=1)
    values["model"] = {"name": str(encoder), "pooling": "cls"}
    directory = run.train_recipe(recipefile.build(values))
    candidates = ["the red box", "a broken screen today", "my bill"]
    made = load_run(directory.path).predict([{"query": "where is the box", "candidates": candidates}])[0]
    theirs = CrossEncoder(str(directory.path / "model"), device="cpu", activation_fn=torch.nn.Identity()).predict(
        [("where is the box", text) for text in candidates]
    )
    ours = {item["text"]: item["score"] for item in made["documents"]}
    assert [ours[text] for text in candidates] == pytest.approx(theirs.tolist(), abs=1e-4)


def test_reranking_takes_negatives_and_candidates_from_bm25_where_rows_have_none(encoder: Path, tmp_path: Path) -> None:
    prepared = prepared_for(tmp_path, encoder, pair_rows(), task={"name": "reranking", "negatives": 2, "depth": 5})
    for row in prepared.train_rows:
        assert len(row["label_negatives"]) == 2
        assert not set(row["label_negatives"]) & set(row["label_relevant"])
    corpus = prepared.task.documents(prepared.splits.rows["test"])
    for row in prepared.splits.rows["test"]:
        scores = bm25(corpus)(row["query"])
        assert row[CANDIDATES] == [corpus[k] for k in best_first(corpus, scores, 5)]
        assert sorted(scores)[-5:] == sorted(scores[corpus.index(text)] for text in row[CANDIDATES])
    with pytest.raises(DataError, match="nothing can be put in order"):
        prepared_for(tmp_path, encoder, [{**row, "document": "the box"} for row in pair_rows()], task="reranking")


def test_texts_that_differ_in_case_and_spaces_are_one_document() -> None:
    assert identity("The  Box\n") == identity("the box") != identity("the boxes")
    assert unique(["A b", "c", "a  B"]) == ["A b", "c"]


def test_bm25_of_texts_without_words_is_nothing() -> None:
    assert bm25(["...", "!"])("where").tolist() == [0, 0]
    assert bm25(["a box", "!"])("?").tolist() == [0, 0]
    assert bm25(["a red box", "a door"])("box").argmax() == 0


def test_a_row_may_have_several_relevant_documents(encoder: Path, tmp_path: Path) -> None:
    rows = [{**row, "document": [row["document"], f"{row['query']} yes"]} for row in pair_rows()]
    prepared = prepared_for(tmp_path, encoder, rows)
    assert all(len(examples) == 2 for examples in prepared.examples)
    answer = ranking(["x", *prepared.train_rows[0]["label_documents"]], np.array([1.0, 3.0, 2.0]))
    found = prepared.task.measure(prepared.train_rows[0], answer)
    assert isinstance(found["ranks"], np.ndarray) and found["ranks"].tolist() == [1, 1, 0.5, 1]


def test_a_prediction_is_plain_json(encoder: Path, tmp_path: Path) -> None:
    prepared = prepared_for(tmp_path, encoder, pair_rows())
    rows = [Row(0, {"query": "where"}, "x", 1)]
    from tunesmith.train.evaluate import answer_rows

    json.dumps(answer_rows(prepared.model, prepared.task, rows))
