"""Chat templates that would never end, reach for what is not theirs, or fail: refused under limits that no clock
decides."""

from pathlib import Path

import pytest

import tiny
from models_of import copied, put
from refusals import SKIP, Bad, check, check_raised

WRITE = "{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}"

SAID = "the model's chat template works or writes without an end"
HINT = "no honest one does; take the model from whom you trust"


def endless(template: str) -> Bad:
    """All ways to have no end are told alike."""
    return Bad(template, SAID, "model", HINT, twin="one purse for all ways to have no end")


EVERY_ROW = (
    "<here>/chats.jsonl:2\n"
    "  also <here>/chats.jsonl:3: nothing of the row is to be learned: the model's chat "
    "template leaves its answers out\n"
    "  also <here>/chats.jsonl:4: nothing of the row is to be learned: the model's chat "
    "template leaves its answers out\n"
    "  also <here>/chats.jsonl:5: nothing of the row is to be learned: the model's chat "
    "template leaves its answers out\n"
    "  also <here>/chats.jsonl:6: nothing of the row is to be learned: the model's chat "
    "template leaves its answers out\n"
    "  also <here>/chats.jsonl:7: nothing of the row is to be learned: the model's chat "
    "template leaves its answers out\n"
    "  and 17 more"
)
"""Where each conversation stands of which the template leaves the answers out."""
TEMPLATES: dict[str, Bad] = {
    "loops in loops": endless("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
    "a text times a billion": endless("{{ 'a' * 10000000000 }}"),
    "a list times a billion": endless("{% set x = [0] * 10000000000 %}"),
    "a text that doubles": endless(
        "{% set n = namespace(s='a') %}{% for k in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
    ),
    "a text that is added to itself": endless(
        "{% set n = namespace(s='a') %}{% for k in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}"
    ),
    "a text that is replaced by itself": endless(
        "{% set n = namespace(s='aa') %}{% for k in range(9) %}{% set n.s = n.s.replace('a', n.s) %}{% endfor %}"
    ),
    "a filter that replaces": endless(
        "{% set n = namespace(s='aa') %}{% for k in range(9) %}{% set n.s = n.s | replace('a', n.s) %}{% endfor %}"
    ),
    "a power": endless("{{ 9 ** (9 ** 9) }}"),
    "a wide centre": endless("{{ 'a' | center(10000000000) }}"),
    "a wide centre that is never reached": endless("{% if false %}{{ 'a' | center(10000000000) }}{% endif %}" + WRITE),
    "a method that widens": endless("{{ 'a'.ljust(10000000000) }}"),
    "a format that widens": endless("{{ '{:>10000000000}'.format(1) }}"),
    "an old format that widens": endless("{{ '%10000000000d' % 1 }}"),
    "a format that is given its width": endless("{{ '{:>{}}'.format(1, 10000000000) }}"),
    "a deep indent": endless("{{ messages | tojson(indent=10000000000) }}"),
    "many parts": endless("{{ messages | slice(10000000000) | list }}"),
    "a join of much": endless("{{ ([('a' * 9999999)] * 99999) | join }}"),
    "tabs": endless("{{ ('\t' * 999999).expandtabs(999999) }}"),
    "a macro that calls itself": endless("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    "a macro that calls itself twice": endless(
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a range too long": endless("{% for a in range(10000000000) %}{% endfor %}"),
    "output without an end": endless("{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}"),
}
"""Templates that would take all time or memory."""

BROKEN: dict[str, Bad] = {
    "no template at all": Bad(
        "{% for m in", "the model's chat template is broken: unexpected 'end of template' (line 1 of it)", "model"
    ),
    "a block that never ends": Bad(
        "{% for m in messages %}",
        (
            "the model's chat template is broken: Unexpected end of template. Jinja was looking "
            "for the following tags: 'endfor' or 'else'. The innermost block that needs to be "
            "closed is 'for'. (line 1 of it)"
        ),
        "model",
    ),
    "a filter that is unknown": Bad(
        "{{ messages | magic }}",
        "the model's chat template is broken: No filter named 'magic'. (line 1 of it)",
        "model",
    ),
    "a tag that is unknown": Bad(
        "{% magic %}", "the model's chat template is broken: Encountered unknown tag 'magic'. (line 1 of it)", "model"
    ),
    "a way to the builtins": Bad(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        (
            "the model's chat template refuses the conversation: access to attribute '__class__' "
            "of 'str' object is unsafe."
        ),
    ),
    "globals of a function": Bad(
        "{{ raise_exception.__globals__['os'].system('id') }}",
        (
            "the model's chat template refuses the conversation: access to attribute "
            "'__globals__' of 'function' object is unsafe."
        ),
    ),
    "globals of a cycler": Bad(
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        (
            "the model's chat template refuses the conversation: access to attribute '__init__' "
            "of 'type' object is unsafe."
        ),
    ),
    "globals by a filter": Bad(
        "{{ (raise_exception | attr('__globals__'))['os'] }}",
        (
            "the model's chat template refuses the conversation: access to attribute "
            "'__globals__' of 'function' object is unsafe."
        ),
        twin="another way to the same",
    ),
    "messages that are changed": Bad(
        "{{ messages.append(1) }}",
        (
            "the model's chat template refuses the conversation: access to attribute 'append' of "
            "'list' object is unsafe."
        ),
    ),
    "another file": Bad(
        "{% include '/etc/passwd' %}",
        "the model's chat template fails: TypeError: no loader for this environment specified",
    ),
    "a refusal": Bad(
        "{{ raise_exception('only one turn, please') }}",
        "the model's chat template refuses the conversation: only one turn, please",
    ),
    "a division by nothing": Bad("{{ 1 / 0 }}", "the model's chat template fails: ZeroDivisionError: division by zero"),
    "a text and a number": Bad(
        "{{ 'a' + 1 }}", ('the model\'s chat template fails: TypeError: can only concatenate str (not "int") to str')
    ),
    "a name that is unknown": Bad(
        "{{ nobody.name }}", "the model's chat template refuses the conversation: 'nobody' is undefined"
    ),
}
"""Templates that fail, or reach for what is not theirs."""

WHOLE: dict[str, Bad] = {
    "turns that change with those behind": Bad(
        "{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}",
        "the model's chat template renders a turn differently when more turns follow",
        (
            "<here>/chats.jsonl:2\n"
            "  also <here>/chats.jsonl:3: the model's chat template renders a turn differently "
            "when more turns follow\n"
            "  also <here>/chats.jsonl:4: the model's chat template renders a turn differently "
            "when more turns follow\n"
            "  also <here>/chats.jsonl:5: the model's chat template renders a turn differently "
            "when more turns follow\n"
            "  also <here>/chats.jsonl:6: the model's chat template renders a turn differently "
            "when more turns follow\n"
            "  also <here>/chats.jsonl:7: the model's chat template renders a turn differently "
            "when more turns follow\n"
            "  and 17 more"
        ),
        "use conversations with one assistant turn, or a model with a plain template; " + SKIP,
    ),
    "nothing": Bad(
        "{# nothing #}",
        "nothing of the row is to be learned: the model's chat template leaves its answers out",
        EVERY_ROW,
        SKIP,
    ),
    "users only": Bad(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}\n{% endfor %}",
        "nothing of the row is to be learned: the model's chat template leaves its answers out",
        EVERY_ROW,
        SKIP,
        twin="it writes, but not the answers",
    ),
    "a syntax that is broken": Bad(
        "{{ messages",
        (
            "the model's chat template is broken: unexpected end of template, expected 'end of "
            "print statement'. (line 1 of it)"
        ),
        "model",
    ),
    "a refusal of all": Bad(
        "{{ raise_exception('no') }}",
        "the model's chat template refuses the conversation: no",
        (
            "<here>/chats.jsonl:2\n"
            "  also <here>/chats.jsonl:3: the model's chat template refuses the conversation: no\n"
            "  also <here>/chats.jsonl:4: the model's chat template refuses the conversation: no\n"
            "  also <here>/chats.jsonl:5: the model's chat template refuses the conversation: no\n"
            "  also <here>/chats.jsonl:6: the model's chat template refuses the conversation: no\n"
            "  also <here>/chats.jsonl:7: the model's chat template refuses the conversation: no\n"
            "  and 17 more"
        ),
        SKIP,
    ),
}
"""Templates of a model that is trained on 30 conversations."""


def rendered(folder: Path, template: str) -> object:
    from transformers import AutoTokenizer

    from tunesmith.models.text import TextEncoder

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    return TextEncoder(tokenizer, 64).render([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("case", [*TEMPLATES, *BROKEN])
def test_a_template_of_no_good_will_is_refused_under_limits(case: str, decoder: Path, tmp_path: Path) -> None:
    bad = (TEMPLATES | BROKEN)[case]
    check_raised(bad, tmp_path, lambda: rendered(decoder, bad.given))


@pytest.mark.parametrize("case", WHOLE)
def test_a_model_whose_template_cannot_be_learned_from_is_refused(
    case: str, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(decoder, tmp_path, put("chat_template.jinja", WHOLE[case].given))
    rows = tiny.write_jsonl(tmp_path / "chats.jsonl", tiny.chat_rows(30))
    place = ("--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(WHOLE[case], capsys, tmp_path, "train", str(folder), str(rows), "--task", "chat", *place)
