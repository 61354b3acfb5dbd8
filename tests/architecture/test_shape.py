"""The shape of the code: layers, sizes, what is banned, what must be said."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tunesmith"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    [
        "errors",
        "cache",
        "contracts",
        "plugins",
        "recipe",
        "recipefile",
        "events",
        "rundir",
        "results",
        "reportshape",
        "evidenceshape",
        "section",
        "anchors",
        "searchspace",
        "searchshape",
        "searchspread",
        "evaluating",
        "averaging",
        "repeatedshape",
    ],
    ["metrics"],
    ["data"],
    ["doctor"],
    ["models"],
    ["written", "labelled", "retrieving"],
    ["tasks", "methods"],
    ["train", "stats", "shares", "resampling", "significance"],
    [
        "encoding",
        "ways",
        "prepare",
        "diagnosis",
        "mend",
        "scaling",
        "provenance",
        "judgement",
        "evidence",
        "comparing",
        "repeated",
        "combined",
        "combinedscores",
        "combining",
        "report",
        "promises",
        "attempt",
        "run",
        "redo",
        "verify",
        "reproduce",
        "predictor",
        "blending",
        "checkup",
        "search",
    ],
    [
        "commands",
        "reporting",
        "repeating",
        "searching",
        "stopping",
        "listings",
        "licences",
        "asked",
        "console",
        "cli",
        "__init__",
        "__main__",
    ],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def part_of(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported at run time; what stands under TYPE_CHECKING is for the reader."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "tunesmith":
                yield from (f"tunesmith.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_nothing_imports_upward(file: Path) -> None:
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    for module in imports(ast.parse(file.read_text())):
        if not module.startswith("tunesmith."):
            continue
        other = part_of(module)
        if own in ("checkup",) and other == "console":
            continue
        assert RANK[other] <= RANK[own], f"{own} imports {other}"
        assert {own, other} != {"tasks", "methods"}


def test_every_module_has_a_layer() -> None:
    tops = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in FILES}
    assert tops == set(RANK)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_pickle_is_never_opened(file: Path) -> None:
    tree = ast.parse(file.read_text())
    banned = {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    assert not banned & {module.partition(".")[0] for module in imports(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            if name == "torch.load":
                assert file.name == "convert.py"
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            assert name not in ("torch.save", "yaml.load", "yaml.unsafe_load", "np.load", "numpy.load")
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert ast.unparse(node.value) == "False"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_stay_small_and_say_what_they_are(file: Path) -> None:
    text = file.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 400
    assert not text.strip() or ast.get_docstring(tree), "a module says what it holds"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            length = (node.end_lineno or 0) - node.lineno
            assert isinstance(node, ast.ClassDef) or length <= 60, f"{node.name} has {length} lines"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_only_the_console_prints() -> None:
    for file in FILES:
        calls = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
        printing = any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)
        assert not printing or file.name in ("console.py", "cli.py"), file


@pytest.mark.parametrize(
    "module", ["recipe", "recipefile", "rundir", "events", "results", "contracts", "commands", "cli"]
)
def test_light_things_import_light(module: str) -> None:
    code = (
        f"import sys, tunesmith.{module}\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'matplotlib', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_validating_a_recipe_with_its_task_and_method_imports_no_torch() -> None:
    code = (
        "import sys\nfrom tunesmith import recipefile\n"
        "recipefile.build({'model': 'minilm', 'task': 'chat', 'method': {'name': 'lora', 'rank': 4}, 'data': 'x'})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_machine_paths_and_no_registry_addresses_are_written_down() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    words = ("/root" + "/", "/work" + "/", "pypi" + ".org", "/opt" + "/pypi", "files.python" + "hosted")
    for name in tracked:
        file = ROOT / name
        if file.suffix in (".png", ".parquet") or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        assert not [word for word in words if word in text], name


def test_every_recipe_of_the_examples_is_valid() -> None:
    from tunesmith import recipefile

    recipes = sorted((ROOT / "examples").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        recipefile.load(recipe)


def test_every_field_of_the_recipe_has_a_sentence() -> None:
    from tunesmith import recipe

    for section in vars(recipe).values():
        if isinstance(section, type) and issubclass(section, recipe.BaseModel):
            for name, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{name}"
