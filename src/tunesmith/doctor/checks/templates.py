"""Marks of chat templates inside texts: a model reads them as turns that nobody took, or as noise."""

from __future__ import annotations

import re
from collections import Counter

from tunesmith.doctor.case import Case, answered, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief

quick = True
_MARKS = re.compile(
    r"<\|[a-z_]{2,40}\|>"  # <|im_start|>, <|endoftext|>, <|eot_id|>
    r"|<(?:start|end)_of_turn>|<｜[^｜<>]{2,30}｜>"  # Gemma, DeepSeek
    r"|\[/?INST\]|<</?SYS>>"  # LLaMA 2, Mistral
    r"|\[(?:CLS|SEP|MASK|PAD|UNK)\]|<(?:pad|unk|mask|bos|eos)>"
    r"|(?:^|\n)#{2,3} ?(?:Instruction|Response|Input|Human|Assistant|User) ?:"
    r"|(?:^|\n)(?:Human|Assistant|USER|ASSISTANT): "
    r"|<s> |(?<=\S) ?</s>(?=\s*$)"  # not the <s> of HTML, which closes inside the text
)


def find(case: Case) -> list[Finding]:
    """`template-tokens`."""
    found = []
    for split, rows in case.rows.items():
        counts: Counter[str] = Counter()
        chosen, shown = [], []
        for row in rows:
            for text in (*asked(row).values(), *answered(row)):
                if match := _MARKS.search(text):
                    counts[match[0].strip()] += 1
                    chosen.append(row)
                    shown.append(
                        f"`{match[0].strip()}` in: {brief(text[max(0, match.start() - 40) : match.end() + 40])}"
                    )
                    break
        if chosen:
            said = ", ".join(f"`{mark}` ({count:,})" for mark, count in counts.most_common(5))
            why = f"texts hold marks of a template: {said}; a model reads them as turns or as noise"
            hint = "take them out, and give the turns as `messages`; the model's own template adds its own"
            found.append(about("template-tokens", split, chosen, len(rows), why, hint, shown=shown[:EXAMPLES]))
    return found
