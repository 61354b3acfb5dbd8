"""The recipe's `search.ray` section: where trials are trained, and with how much of a machine. Knows no cluster."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from tunesmith.section import Section

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


class Ray(Section):
    """Where the trials of a search are trained: by Ray Tune, on the workers of a cluster."""

    address: str = "auto"
    """`auto` is the cluster that this machine is part of, `local` a new one on this machine alone, `host:port` the
    cluster whose head is there."""

    workers: int | None = Field(default=None, ge=1, le=10_000)
    """Trials at a time. None makes as many as the machines have room for."""

    cpus: int = Field(default=1, ge=1)
    """CPUs of a trial, and its threads."""

    gpus: float = Field(default=0, ge=0)
    """GPUs of a trial; a part such as 0.5 shares one. 0 trains on CPUs."""

    @field_validator("address")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.startswith("ray://"):
            raise ValueError(
                "`search.ray.address` is a Ray client's; run the command on a machine of the cluster, with `auto`, or "
                "with the `host:port` of its head"
            )
        if value not in ("auto", "local") and not _HOST.fullmatch(value):
            raise ValueError(f"`search.ray.address` is {value!r}; write `auto`, `local`, or `host:port`")
        return value

    @field_validator("gpus")
    @classmethod
    def _countable(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError(f"`search.ray.gpus` is {value:g}; Ray gives a part of one GPU, or whole ones")
        return value
