"""The worker's side of a search over several machines: an order comes as JSON, a trial is trained by the code that
trains it elsewhere, and what happens is reported as JSON at each look and at the end.

It knows no study and no folder of a search. Whether a trial has fallen behind is the driver's to say: it ends the trial
while that waits for its report to be taken.
"""

from __future__ import annotations

import json
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.errors import RunError, TunesmithError
from tunesmith.events import Event, to_line

if TYPE_CHECKING:
    from tunesmith.search.shared import Shared

Told = dict[str, Any]
_SHARED: dict[str, Shared] = {}
"""Of the search that this process works for: rows, nets and tables outlive a trial."""


def train(config: Mapping[str, Any]) -> None:
    """What Ray Tune runs: the trial of `config["order"]`."""
    from ray import tune

    carry_out(json.loads(config["order"]), lambda told: tune.report({"told": json.dumps(told)}))


class _Reporter:
    """Keeps what happens until it is told."""

    def __init__(self, report: Callable[[Told], None]) -> None:
        self._report, self._waiting = report, list[str]()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    def hear(self, event: Event) -> None:
        """Keep an event."""
        self._waiting.append(to_line(event))

    def tell(self, what: Told) -> None:
        """Report it, with the events since the report before."""
        told = {**what, "events": self._waiting, "worker": self._worker}
        self._waiting = []
        self._report(told)


def carry_out(order: Mapping[str, Any], report: Callable[[Told], None]) -> None:
    """Train what is ordered. Every report has one of: `look` (share, value, and what the trial comes to if it ends
    here), `came` (what it came to), `failed` (why), `fault` (what must end the search)."""
    reporter = _Reporter(report)
    try:
        last = _train(order, _ready(order), reporter)
    except TunesmithError as fault:
        last = {"fault": fault.as_json()}
    except Exception:  # a mistake of ours: its trace goes with it, since nobody reads the worker's log
        last = {"fault": {"trace": traceback.format_exc()}}
    reporter.tell(last)


def _ready(order: Mapping[str, Any]) -> Shared:
    """What the trials of this process share. Raises UserError where this machine has other rows, another model or
    another Tunesmith than the driver: its scores could not be compared with those of others."""
    import torch

    from tunesmith import recipefile
    from tunesmith.data.sums import of_code
    from tunesmith.models import matmul
    from tunesmith.search.opening import made_of, unlike
    from tunesmith.search.shared import Shared

    torch.set_num_threads(order["threads"])
    made = order["made_of"]
    if order["search"] not in _SHARED:
        try:
            os.chdir(order["folder"])
        except OSError as fault:
            raise RunError(
                f"the folder of the command is not there: {fault.strerror}",
                where=order["folder"],
                hint="each machine needs the recipe's files under the same paths",
            ) from None
        if of_code() != order["code_sha256"]:
            raise RunError("Tunesmith is of another version there", hint="install the same one on each machine")
        shared = Shared()
        shared.matmul = matmul.named(made["matmul"])
        odd = unlike(made, made_of(shared.prepare(recipefile.build(order["base"]))))
        if odd is not None:
            raise RunError(
                f"the {odd[0]} are not those of the search: {odd[1]}", hint="copy the same files to each machine"
            )
        _SHARED.clear()
        _SHARED[order["search"]] = shared
    return _SHARED[order["search"]]


def _train(order: Mapping[str, Any], shared: Shared, reporter: _Reporter) -> Told:
    """Train the trial; what is to be told last."""
    from tunesmith import recipefile
    from tunesmith.search.trial import Trial, alone
    from tunesmith.search.work import FAULTS, result_of

    trial: Trial

    def ask(share: float, value: float) -> bool:
        """Whether it has fallen behind: one that has does not come back from this."""
        behind = result_of(replace(trial.outcome(), pruned=True))
        reporter.tell({"look": {"share": share, "value": value, "behind": behind}})
        return False

    try:
        trial = Trial(recipefile.build(order["recipe"]), shared, ask)
        with closing(alone(trial)) as running:
            for event in running:
                reporter.hear(event)
        return {"came": result_of(trial.outcome())}
    except FAULTS as fault:
        return {"failed": fault.problem}
