"""The command line: a function a command. No logic of its own; what is heavy is imported inside the commands."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tunesmith import asked, commands, listings, repeating, reporting, searching
from tunesmith.console import Screen
from tunesmith.errors import Stopped, TunesmithError, memory_told

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else.")
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")

SCHEMAS = (
    "recipe", "result", "repeated", "combine", "check", "runs", "models", "blend", "compare", "report", "verify",
    "reproduce", "licences", "search",
)  # fmt: skip
"""What `schema` can print: the recipe, and what commands print with `--json`."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tunesmith")
def app() -> None:
    """Tune a pretrained model to your task, and know whether it helped."""


@app.command()
@click.argument("what", nargs=-1, required=True, metavar="RECIPE | MODEL FILE")
@click.option("--task", help="The task; else it is inferred from the rows.")
@click.option("--method", help="The tuning method; else the usual one for the model.")
@SET
@JSON
def train(
    what: tuple[str, ...], task: str | None, method: str | None, overrides: tuple[str, ...], as_json: bool
) -> int:
    """Tune a model by a recipe, or bare: `tunesmith train minilm tickets.csv`."""
    return commands.train(Screen(as_json=as_json), what, task, method, overrides)


@app.command()
@click.argument("what", type=click.Path(path_type=Path), metavar="RECIPE | FOLDER")
@SET
@JSON
def search(what: Path, overrides: tuple[str, ...], as_json: bool) -> int:
    """Try the space of a recipe's `search`, and run its winner; the same again goes on, also beside another process."""
    return searching.search(Screen(as_json=as_json), what, overrides)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def resume(run: Path, as_json: bool) -> int:
    """Go on with a run that was stopped or killed: to the same bits as if it never had been."""
    return commands.resume(Screen(as_json=as_json), run)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Rows to score on; else the run's own test rows.")
@JSON
def evaluate(run: Path, data: Path | None, as_json: bool) -> int:
    """Score a tuned model beside its untuned base, on new rows or on its test rows."""
    return commands.evaluate(Screen(as_json=as_json), run, data)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--with", "others", multiple=True, type=click.Path(path_type=Path), help="A run to compare it with.")
@click.option("--model", "models", multiple=True, help="Another model, untuned, on the same rows.")
@click.option("--scaling", is_flag=True, help="Learn from parts of the rows: would more of them help?")
@JSON
def report(run: Path, others: tuple[Path, ...], models: tuple[str, ...], scaling: bool, as_json: bool) -> int:
    """Make a finished run's report anew, and add to it."""
    return reporting.report(Screen(as_json=as_json), run, others, models, scaling)


@app.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@JSON
def compare(runs: tuple[Path, ...], as_json: bool) -> int:
    """Compare runs on the rows that all of them were scored on, with paired tests."""
    return reporting.compare(Screen(as_json=as_json), runs)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", default=10, show_default=True, type=click.IntRange(1, 100), help="Parts of the way.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Rows of another task: what the model still knows of them."
)
@click.option("--save", type=click.FloatRange(0, 1), help="A share of the tuned weights to save a model at.")
@JSON
def blend(run: Path, steps: int, keep: Path | None, save: float | None, as_json: bool) -> int:
    """Mix the untuned and the tuned weights of a run: what was learned against what was forgotten."""
    return commands.blend(Screen(as_json=as_json), run, steps, keep, save)


@app.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--how", required=True, type=click.Choice(("weights", "ensemble")), help="What the mean is taken of.")
@JSON
def combine(folder: Path, how: str, as_json: bool) -> int:
    """Make one model of repeated trainings: the mean of their weights, or an ensemble that gives their mean answer."""
    return repeating.combine(Screen(as_json=as_json), folder, how)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def verify(run: Path, as_json: bool) -> int:
    """Prove a finished run: rendering, saved folder, merged adapter, batches, scores, a stop and a resume."""
    return commands.verify(Screen(as_json=as_json), run)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder to keep the second run in.")
@JSON
def reproduce(run: Path, keep: Path | None, as_json: bool) -> int:
    """Make a finished run again from its receipt, and compare losses, weights and scores to the bit."""
    return commands.reproduce(Screen(as_json=as_json), run, keep)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--text", multiple=True, help="A text to answer; may be given several times.")
@click.option("--image", multiple=True, help="The path of an image to answer; may be given several times.")
@click.option("--input", "source", type=click.Path(path_type=Path), help="A file of rows to answer.")
@click.option("--output", "target", type=click.Path(path_type=Path), help="Where the answers go: .jsonl or .csv.")
@JSON
def predict(
    run: Path, text: tuple[str, ...], image: tuple[str, ...], source: Path | None, target: Path | None, as_json: bool
) -> int:
    """Use a tuned model on texts or on a file."""
    return commands.predict(Screen(as_json=as_json), run, (*text, *image), source, target)


@app.command()
@click.argument("what", nargs=-1, required=True, metavar="RECIPE | MODEL FILE")
@click.option("--task", help="The task; else it is inferred from the rows.")
@click.option("--method", help="The tuning method; else the usual one for the model.")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    help="Rows to show as the model sees them; else 3 on the screen and 20 on the page.",
)
@click.option("--page", type=click.Path(path_type=Path), help="Write all of it into one HTML file, to be looked at.")
@click.option("--fix", type=click.Path(path_type=Path), help="Write the training rows that are left, .jsonl or .csv.")
@click.option("--scaling", is_flag=True, help="Learn from parts of the rows too: would more of them help?")
@SET
@JSON
def check(
    what: tuple[str, ...],
    task: str | None,
    method: str | None,
    rows: int | None,
    page: Path | None,
    fix: Path | None,
    scaling: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Look at the rows and the plan; train nothing."""
    wanted = commands.Checks(rows, page, fix, scaling)
    return commands.check(Screen(as_json=as_json), what, task, method, overrides, wanted)


@app.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@JSON
def runs(folder: Path, as_json: bool) -> int:
    """List the runs of a folder."""
    return listings.runs(Screen(as_json=as_json), folder)


@app.command()
@JSON
def licences(as_json: bool) -> int:
    """List the licence of every package that is installed for Tunesmith, and of every model that can be named."""
    return listings.licences(Screen(as_json=as_json))


@app.command()
@click.option("--for", "task", help="Recommend models for a task, with the reason.")
@JSON
def models(task: str | None, as_json: bool) -> int:
    """List the models that can be named: size, licence, what they can do, whether they are here."""
    return listings.models(Screen(as_json=as_json), task)


@app.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", default=None, help="The model to name in it.")
@click.option("--output", default="recipe.yaml", show_default=True, type=click.Path(path_type=Path))
def init(file: Path, model: str | None, output: Path) -> int:
    """Write a short commented recipe for a file of rows."""
    return asked.init(Screen(as_json=False), file, model, output)


@app.command()
@click.argument(
    "what",
    type=click.Choice(SCHEMAS),
    default="recipe",
)
def schema(what: str) -> int:
    """Print the JSON Schema of the recipe, or of what `--json` prints."""
    return listings.schema(Screen(as_json=False), what)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 the user can mend it, 1 a fault, 130 interrupted, 143 terminated."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with _terminable(), memory_told():
            code: Any = app.main(given, prog_name="tunesmith", standalone_mode=False)
    except click.ClickException as fault:
        fault.show()
        code = 2
    except (KeyboardInterrupt, click.Abort) as ending:
        stop = ending.__cause__ if isinstance(ending, click.Abort) else ending
        hint = getattr(stop, "hint", None)
        print(f"stopped; {hint}" if hint else "stopped", file=sys.stderr)
        code = 128 + getattr(stop, "number", signal.SIGINT)
    except TunesmithError as fault:
        Screen(as_json="--json" in given).error(fault)
        code = fault.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what it was writing is taken away."""

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
        yield
        return
    old = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
