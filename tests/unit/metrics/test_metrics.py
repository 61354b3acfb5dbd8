"""Our sums give the scores of the libraries that define them."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.metrics import answers, overlap, translation

WORDS = ["das", "ist", "ein", "Haus", "the", "house", "is", "here", ".", "Zug", "über", "123"]
sentence = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
pairs = st.lists(st.tuples(sentence, st.lists(sentence.filter(bool), min_size=1, max_size=2)), min_size=1, max_size=6)


@given(pairs)
@settings(max_examples=150, deadline=None)
def test_bleu_of_sums_is_sacrebleus_corpus_bleu(rows: list[tuple[str, list[str]]]) -> None:
    from sacrebleu.metrics import BLEU

    most = max(len(references) for _, references in rows)
    streams = [[refs[k] if k < len(refs) else refs[0] for _, refs in rows] for k in range(most)]
    wanted = BLEU().corpus_score([answer for answer, _ in rows], streams).score
    sums = sum(translation.bleu_counts(answer, [s[k] for s in streams]) for k, (answer, _) in enumerate(rows))
    assert float(translation.bleu(np.asarray(sums))) == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.tuples(sentence, sentence.filter(bool)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_chrf_of_sums_is_sacrebleus_corpus_chrf(rows: list[tuple[str, str]]) -> None:
    from sacrebleu.metrics import CHRF

    wanted = CHRF().corpus_score([answer for answer, _ in rows], [[reference for _, reference in rows]]).score
    sums = sum(translation.chrf_counts(answer, [reference]) for answer, reference in rows)
    assert float(translation.chrf(np.asarray(sums))) == pytest.approx(wanted, abs=1e-9)


def test_bleu_is_100_for_the_reference_and_less_for_a_shorter_answer() -> None:
    text = "the house is here and it is red"
    same = translation.bleu(translation.bleu_counts(text, [text]))
    assert float(same) == pytest.approx(100.0)
    assert float(translation.bleu(translation.bleu_counts("the house is here", [text]))) < 50


def test_rouge_is_the_librarys_on_ascii_and_counts_words_of_other_scripts() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    generator = random.Random(0)
    stock = RougeScorer(list(overlap.KINDS))
    for _ in range(50):
        a, b = (" ".join(generator.choices(["a", "cat", "sat", "on", "mat", "dog"], k=8)) for _ in range(2))
        found = stock.score(b, a)
        assert list(overlap.rouge(a, [b])) == pytest.approx([found[kind].fmeasure for kind in overlap.KINDS])
    assert list(overlap.rouge("кот сидит дома", ["кот сидит дома"])) == [1.0, 1.0, 1.0]
    assert (
        stock.score("кот сидит дома", "кот сидит дома")["rouge1"].fmeasure == 0.0
    )  # what the library alone makes of it
    assert list(overlap.rouge("a cat", ["a dog", "a cat"])) == [1.0, 1.0, 1.0]


def test_novelty_is_the_share_of_new_word_pairs() -> None:
    text = "the cat sat on the mat"
    assert overlap.novelty("the cat sat", text) == 0.0
    assert overlap.novelty("cat the sat on", text) == pytest.approx(2 / 3)
    assert len(set(pairwise(overlap.words(text)))) == 5


def test_exact_match_and_f1_are_squads() -> None:
    assert answers.exact("The Apollo program!", ["apollo  program"]) == 1.0
    assert answers.f1("the red house", ["a red car", "house"]) == pytest.approx(2 / 3)
    assert (answers.exact("", []), answers.f1("", []), answers.f1("x", []), answers.exact("x", [])) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("answers_and_references", "words"),
    [
        ([("我今天去学校了", "我今天去学校"), ("天气很好", "天气真好啊")], "zh"),
        ([("今日は学校に行きました", "今日は学校へ行きました")], "char"),
        ([("ฉันไปโรงเรียน", "ฉันไปที่โรงเรียน")], "char"),
        ([("das Haus ist hier", "das Haus ist da")], "13a"),
        ([("मैं स्कूल जाता हूँ", "मैं स्कूल गया था")], "13a"),
        ([("나는 학교에 갔다", "나는 학교에 간다")], "13a"),
    ],
)
def test_words_are_found_as_the_script_asks_and_bleu_is_sacrebleus_with_them(
    answers_and_references: list[tuple[str, str]], words: str
) -> None:
    from sacrebleu.metrics import BLEU

    assert translation.words_for(reference for _, reference in answers_and_references) == words
    metric = BLEU(tokenize=words)
    said, references = zip(*answers_and_references, strict=True)
    wanted = metric.corpus_score(list(said), [list(references)]).score
    sums = sum(translation.bleu_counts(a, [b], words) for a, b in answers_and_references)  # type: ignore[arg-type]
    assert float(translation.bleu(np.asarray(sums))) == pytest.approx(wanted, abs=1e-9)
    assert wanted > 0 or words == "13a"
    assert f"BLEU {metric.get_signature()}" in translation.signature(words)  # type: ignore[arg-type]
    assert "nrefs:var" in translation.signature(words, several=True)  # type: ignore[arg-type]


def test_rouge_finds_words_of_scripts_without_spaces_and_keeps_vowel_signs() -> None:
    assert overlap.words("我今天去ABC学校") == ["我", "今", "天", "去", "abc", "学", "校"]
    assert overlap.words("मैं स्कूल जाता हूँ") == ["मैं", "स्कूल", "जाता", "हूँ"]
    assert 0.5 < float(overlap.rouge("我今天去学校了", ["我今天去学校"])[0]) < 1
