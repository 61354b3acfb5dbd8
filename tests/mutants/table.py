"""Every mutant, and the rows of the traps that they come from."""

from __future__ import annotations

from mutants import choice, disks, engine, files, learning, loss, packing, proofs, runs, saved, scores, texts, together

TRAPS = {
    "1.1": "mean of means under gradient accumulation",
    "1.2": "ranks with unequal label counts",
    "1.3": "denominator counted before the shift",
    "1.4": "a micro-batch without labels: 0/0",
    "1.5": "packing contamination",
    "1.6": "the last token of A predicts the first of B",
    "1.7": "position ids not restarted",
    "1.8": "padding side and last-token pooling",
    "1.9": "pad is the end of text, so the end of turn is never trained",
    "1.10": "doubled beginning or end of text",
    "1.11": "label shifted twice or never",
    "1.12": "truncation leaves no label",
    "1.13": "dropout with activation checkpointing",
    "1.14": "nothing trains",
    "1.15": "a cache of the frozen trunk that goes stale, or with dropout",
    "1.16": "tied embeddings with adapters",
    "1.17": "merge precision",
    "1.18": "added tokens",
    "1.19": "prompt and answer tokenized apart",
    "1.20": "clip norm per micro-batch",
    "1.21": "schedule length under accumulation, packing, early stop",
    "1.22": "a sampler that drops or repeats rows",
    "1.23": "evaluation as mean of batch means",
    "1.24": "throughput that counts padding",
    "1.25": "template drift between training and serving",
    "1.26": "references read back from truncated labels",
    "1.27": "generation cut at 20 tokens",
    "1.28": "sub-words scored as entities, gold lost past the cut",
    "1.29": "accuracy that is macro averaged",
    "1.30": "search that optimizes a sum of all metrics",
    "1.31": "test rows used for model choice",
    "1.32": "test rows cleaned too",
    "1.33": "a registered attention function that is never called",
    "1.34": "packing that a default switches off, RoPE scaled by the longest row",
    "2.1": "partial checkpoint taken for the newest",
    "2.2": "old checkpoint removed before the new one is durable",
    "2.3": "disk full destroys the previous file",
    "2.4": "a flipped bit loads silently",
    "2.5": "resume repeats or skips data",
    "2.6": "state restored by position, step count restarted",
    "2.7": "NaN checkpoints rotate the healthy ones out",
    "2.8": "SIGTERM only seen at step ends",
    "2.9": "rotation by name or mtime",
    "2.10": "two processes in one run directory",
    "3.1": "pickle anywhere",
    "3.2": "code in a model's config",
    "3.3": "chat-template bombs",
    "3.4": "weights with a hostile header",
    "3.5": "splitlines on JSON Lines",
    "3.6": "byte-order marks, encodings, NUL, duplicate columns, mixed labels",
    "3.7": "archives with `..` or links",
    "3.8": "unknown or mistyped recipe key",
}
"""Defects that other tools shipped, as `section.row`."""

_PARTS = (loss, packing, texts, learning, engine, scores, choice, runs, disks, saved, files, proofs, together)
MUTANTS = tuple(mutant for part in _PARTS for mutant in part.MUTANTS)
