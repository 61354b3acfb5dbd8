"""cleanlab's side of bench/label_noise.py: `python noise.py JOB.json OUT.json`, in cleanlab's own environment.

From the same out-of-fold probabilities: its ranking and the rows it reports. From the texts alone: what its
CleanLearning reports with TF-IDF and logistic regression, as its documentation does it, and how long that takes.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Read the job, write what was found."""
    import numpy as np
    from cleanlab.classification import CleanLearning
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    labels, probabilities = np.array(job["labels"]), np.array(job["probabilities"])
    made: dict[str, Any] = {
        "order": np.argsort(get_label_quality_scores(labels, probabilities, method="self_confidence")).tolist(),
        "reported": np.flatnonzero(find_label_issues(labels, probabilities)).tolist(),
    }
    began = time.perf_counter()
    features = TfidfVectorizer().fit_transform(job["texts"])
    issues = CleanLearning(LogisticRegression(max_iter=400)).find_label_issues(features, labels)
    made["learning_seconds"] = time.perf_counter() - began
    made["learning_order"] = np.argsort(issues["label_quality"].to_numpy()).tolist()
    made["learning_reported"] = np.flatnonzero(issues["is_label_issue"].to_numpy()).tolist()
    Path(sys.argv[2]).write_text(json.dumps(made), encoding="utf-8")


if __name__ == "__main__":
    main()
