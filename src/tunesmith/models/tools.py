"""Tools in conversations for models whose chat template knows nothing of them: told in the text.

The form is the one that most open models with tools were tuned on: the tools as JSON in the system message, a call as
JSON between `<tool_call>` and `</tool_call>`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_TOLD = (
    "You may call tools. A call is written as a JSON object with `name` and `arguments` between <tool_call> and "
    "</tool_call>. These are the tools:\n<tools>\n{tools}\n</tools>"
)


def in_text(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The same conversation with tools and calls as text."""
    made = [_message(message) for message in messages]
    if tools:
        told = _TOLD.format(tools="\n".join(_json(tool) for tool in tools))
        if made and made[0]["role"] == "system":
            made[0] = {**made[0], "content": f"{made[0]['content']}\n\n{told}"}
        else:
            made.insert(0, {"role": "system", "content": told})
    return made


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [f"<tool_call>\n{_json(call['function'])}\n</tool_call>" for call in message.get("tool_calls", ())]
    parts = [message["content"], *calls] if message["content"] else calls
    return {"role": message["role"], "content": "\n".join(parts)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
