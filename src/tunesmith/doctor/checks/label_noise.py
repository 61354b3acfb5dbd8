"""Labels that are likely wrong: a model that has not seen a row is confident of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row
from tunesmith.data.content import content, digest
from tunesmith.doctor import confident
from tunesmith.doctor.case import Case, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief
from tunesmith.doctor.minhash import plain

quick = False
_FOLDS = 5
_FEWEST = 10
"""Rows of a label that can be told from others."""
_MARGIN = -0.6
"""By how much another label must be likelier. On sets as published 0.2 to 5 % of the rows have that; of labels that
were changed a quarter (sst2) to four fifths are found, and seven in ten of those reported or more are such
(bench/label_noise.py)."""
_ENOUGH = 500
"""Rows from which on labels that the texts do not tell at all are reported."""
_WORK = 1_000_000
"""Rows times labels that are learned from: about two minutes on one core. A larger set is sampled."""
_TERMS = 50_000
_MOST_LABELS = int((_WORK / _FEWEST) ** 0.5)
"""Labels that are told apart, the commonest: of more, not even the fewest rows would be learned in that time."""


def find(case: Case) -> list[Finding]:
    """`label-noise` of the training and validation rows, and `unrelated-labels`; test rows are not looked at: nobody is
    to change them."""
    rows, names = [], []
    for split in ("train", "validation"):
        for row in case.rows.get(split, ()):
            rows.append(row)
            names.append(split)
    labels = [label if isinstance(label := row.values.get("label"), str) else "" for row in rows]
    counts = Counter(labels)
    texts = ["\n".join(asked(row).values()) for row in rows]
    kept = [k for k, label in enumerate(labels) if label and counts[label] >= _FEWEST and texts[k].strip()]
    classes = sorted({labels[k] for k in kept})
    if len(classes) > _MOST_LABELS:
        common = {label for label, _ in Counter(labels[k] for k in kept).most_common(_MOST_LABELS)}
        kept, classes = [k for k in kept if labels[k] in common], sorted(common)
    if len(classes) < 2 or case.task == "text-regression":
        return []
    keys = np.array([digest(content(rows[k]), "noise") for k in kept], np.uint64)
    order = np.argsort(keys, kind="stable")[: max(_WORK // len(classes), _FEWEST * len(classes))]
    chosen = _told([kept[k] for k in order], labels, texts)
    classes = sorted({labels[k] for k in chosen})
    given = np.array([classes.index(labels[k]) for k in chosen])
    probabilities = (
        out_of_fold([texts[k] for k in chosen], given, len(classes), case.seed) if len(classes) > 1 else None
    )
    if probabilities is None:
        return []
    probabilities = confident.calibrated(probabilities, given)
    gain, error = confident.gain(probabilities, given)
    if gain <= 2 * error:
        return _unrelated(case, len(chosen)) if len(chosen) >= _ENOUGH and "second" not in rows[0].values else []
    margin, sure = confident.margins(probabilities, given), confident.likely(probabilities, given)
    suspects = np.flatnonzero((sure >= 0) & (sure != given) & (margin < _MARGIN))
    suspects = suspects[np.argsort(confident.suspicion(probabilities, given)[suspects], kind="stable")]
    found = []
    for split in ("train", "validation"):
        mine = [k for k in suspects.tolist() if names[chosen[k]] == split]
        if mine:
            said = [
                f"{classes[given[k]]}, looks like {classes[sure[k]]}: {brief(texts[chosen[k]], 100)}"
                for k in mine[:EXAMPLES]
            ]
            found.append(_finding(split, [rows[chosen[k]] for k in mine], len(case.rows[split]), said))
    return found


def _told(chosen: Sequence[int], labels: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Those of the rows whose label has different texts for every fold: of others nothing could be learned."""
    different = Counter(label for label, _ in {(labels[k], plain(texts[k])) for k in chosen})
    return [k for k in chosen if different[labels[k]] >= _FOLDS]


def _unrelated(case: Case, count: int) -> list[Finding]:
    rows = case.rows["train"]
    why = (
        f"from the words of {count:,} rows a cheap model tells their labels no better than by how often each comes: "
        "were they mixed up? A model that reads better may still learn them, or may learn nothing"
    )
    hint = "look whether the labels stand beside their own texts"
    return [about("unrelated-labels", "train", rows, len(rows), why, hint)]


def _finding(split: str, rows: Sequence[Row], of: int, said: Sequence[str]) -> Finding:
    return about(
        "label-noise",
        split,
        rows,
        of,
        "a cheap model that has not seen these rows is confident of another label, the surest first",
        "read them, and correct those that are wrong; nothing is removed by itself",
        shown=said,
    )


def out_of_fold(texts: Sequence[str], labels: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.float64] | None:
    """[rows, classes] probabilities of each text from a model of the other folds: TF-IDF of words and characters, and a
    logistic regression per class by stochastic gradients, which on banking77 found more than lbfgs in half the time.
    Copies of a text are in one fold: else a wrong label would be learned from its copy. None where no text has a term
    that another has."""
    import warnings

    from sklearn.linear_model import SGDClassifier

    features = _features(texts)
    if features is None:
        return None
    _, first, copy_of = np.unique([plain(text) for text in texts], return_index=True, return_inverse=True)
    fold_of = np.empty(len(first), np.int64)
    for label in range(classes):
        mine = np.flatnonzero(labels[first] == label)
        mine = mine[np.argsort(first[mine])]
        fold_of[mine] = (np.arange(len(mine)) + label) % _FOLDS
    fold = fold_of[copy_of]
    made = np.zeros((len(labels), classes))
    for number in range(_FOLDS):
        held = fold == number
        model = SGDClassifier(loss="log_loss", alpha=1e-4, max_iter=20, tol=1e-3, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rounds that end before the loss is still
            model.fit(features[~held], labels[~held])
        made[np.ix_(held, model.classes_)] = model.predict_proba(features[held])
    return made


def _features(texts: Sequence[str]) -> Any:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    made = []
    for analyzer, ngrams in (("word", (1, 2)), ("char_wb", (2, 5))):
        try:
            words = TfidfVectorizer(
                analyzer=analyzer,
                ngram_range=ngrams,
                sublinear_tf=True,
                min_df=2,
                max_features=_TERMS,
                dtype=np.float32,
            )
            made.append(words.fit_transform(texts))
        except ValueError:  # no term is in two texts
            continue
    return csr_matrix(hstack(made)) if made else None
