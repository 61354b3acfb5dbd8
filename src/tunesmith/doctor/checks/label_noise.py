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

quick = False
_FOLDS = 5
_FEWEST = 10
"""Rows of a label that can be told from others."""
_MARGIN = -0.4
"""By how much another label must be likelier. On sets as published 0.3 to 5 % of the rows have that; of labels that
were changed at random about half are found, with a precision of .5 (sst2) to .95 (bench/label_noise.py)."""
_WORK = 1_000_000
"""Rows times labels that are learned from: about two minutes on one core. A larger set is sampled."""
_TERMS = 50_000


def find(case: Case) -> list[Finding]:
    """`label-noise` of the training and validation rows; test rows are not looked at: nobody is to change them."""
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
    if len(classes) < 2 or case.task == "text-regression":
        return []
    keys = np.array([digest(content(rows[k]), "noise") for k in kept], np.uint64)
    order = np.argsort(keys, kind="stable")[: max(_WORK // len(classes), _FEWEST * len(classes))]
    chosen = [kept[k] for k in order]
    given = np.array([classes.index(labels[k]) for k in chosen])
    if np.bincount(given, minlength=len(classes)).min() < _FOLDS:
        return []
    probabilities = out_of_fold([texts[k] for k in chosen], given, len(classes), case.seed)
    if probabilities is None:
        return []
    margin, sure = confident.margins(probabilities, given), confident.likely(probabilities, given)
    suspects = np.flatnonzero((sure >= 0) & (sure != given) & (margin < _MARGIN))
    suspects = suspects[np.argsort(confident.trust(probabilities, given)[suspects], kind="stable")]
    share = confident.noise_share(probabilities, given)
    found = []
    for split in ("train", "validation"):
        mine = [k for k in suspects.tolist() if names[chosen[k]] == split]
        if mine:
            said = [
                f"{classes[given[k]]}, looks like {classes[sure[k]]}: {brief(texts[chosen[k]], 100)}"
                for k in mine[:EXAMPLES]
            ]
            found.append(_finding(split, [rows[chosen[k]] for k in mine], len(case.rows[split]), share, said))
    return found


def _finding(split: str, rows: Sequence[Row], of: int, share: float, said: Sequence[str]) -> Finding:
    return about(
        "label-noise",
        split,
        rows,
        of,
        "a cheap model that has not seen these rows is confident of another label, the surest first; "
        f"with rows that are hard to tell, {100 * share:.0f} % of the labels may be wrong",
        "read them, and correct those that are wrong; nothing is removed by itself",
        shown=said,
    )


def out_of_fold(texts: Sequence[str], labels: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.float64] | None:
    """[rows, classes] probabilities of each text from a model of the other folds: TF-IDF of words and characters, and a
    logistic regression per class by stochastic gradients, which on banking77 found more than lbfgs in half the time.
    None where no text has a term that another has. Every class needs a row in each of two folds."""
    import warnings

    from sklearn.linear_model import SGDClassifier

    features = _features(texts)
    if features is None:
        return None
    fold = np.empty(len(labels), np.int64)
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        fold[mine] = (np.arange(len(mine)) + label) % _FOLDS
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
