"""The house's rules: who imports whom, who prints, how long a module is."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGE = Path(__file__).parents[1] / "kaggle_kit"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {
    ".".join(("kaggle_kit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in MODULES
}
GROUND = {"child", "errors", "files", "outside", "owners", "places", "retry", "secrets", "suggest", "visible"}
# Floor → the floors that it may import, its own and the ground besides. `runtime` is carried to Kaggle alone; what
# others take of it are the contracts that both sides keep: manifest, task, submission, rows.
FLOORS = {
    "runtime": set(),
    "targets": {"runtime"},
    "project": {"runtime"},
    "evaluation": {"runtime"},
    "wheelhouse": {"runtime", "targets"},
    "notebook": {"runtime", "project", "targets", "wheelhouse"},
    "model": {"runtime", "targets"},
    "sandbox": {"runtime", "project", "targets", "evaluation", "notebook", "wheelhouse", "model"},
    "remote": {"runtime", "project", "targets"},
    "loopback": set(),
}
FLOORS["cli"] = set(FLOORS)
GROUND_OF_RUNTIME = {"child", "errors", "files", "outside"}
HEAVY = {"torch", "vllm", "transformers", "pandas", "polars", "kaggle", "numpy", "scipy"}
LINES = 500
PROJECT_FOLDERS = {"project", "project.root", "self.root", "records"}
WRITER = "cli/terminal.py"
WRITING = {"print", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "os.write"} | {
    f"click.{name}"
    for name in ("echo", "secho", "confirm", "prompt", "progressbar", "echo_via_pager", "get_text_stream")
}
SHOWING = {"show", "say", "show_text", "show_log"}
# Programs of their own, whose exit code is their answer.
PROGRAMS = {
    *("runtime/worker.py", "runtime/bench_worker.py", "sandbox/seal_driver.py", "sandbox/seal_unshare.py"),
    "notebook/template_child.py",
}


BELOW = [path for path in MODULES if not path.is_relative_to(PACKAGE / "cli")]
BELOW = [path for path in BELOW if path.relative_to(PACKAGE).as_posix() not in PROGRAMS]


@cache
def tree(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    """A module's path below the package."""
    return path.relative_to(PACKAGE).as_posix()


def floor(path: Path) -> str:
    """The floor on which a module stands, or its own name on the ground."""
    return place(path).split("/")[0].removesuffix(".py")


def imported(nodes) -> set[str]:
    """Every module that import statements among `nodes` name, `from a import b` as `a.b`."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floors_used(path: Path) -> set[str]:
    """The floors and ground modules of the kit that a module imports, inside of functions too."""
    parts = [name.split(".") for name in imported(ast.walk(tree(path)))]
    return {part[1] for part in parts if part[0] == "kaggle_kit" and len(part) > 1} - {"__version__"}


def at_import(body: list[ast.stmt], *, typing: bool = False) -> list[ast.stmt]:
    """The statements that run when a module is imported: not those of functions, nor, unless `typing`, for types."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing:
            continue
        found.append(node)
        for part in ("body", "orelse", "finalbody"):
            found += at_import(getattr(node, part, []), typing=typing)
    return found


def modules_used(path: Path) -> set[str]:
    """The modules of the kit that a module imports at its top, for types too."""
    names = imported(at_import(tree(path).body, typing=True))
    return {name if name in NAMES else name.rpartition(".")[0] for name in names} & NAMES.keys()


def calls(path: Path) -> set[str]:
    """The names that a module calls, as they are written."""
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


def offenders(fault: Callable[[Path], object], modules: Iterable[Path] = MODULES) -> dict[str, object]:
    """Each module of which `fault` finds something, with what it finds."""
    return {place(path): wrong for path in modules if (wrong := fault(path))}


def test_every_floor_is_known():
    """A new package of the kit needs its place in the table."""
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(FLOORS) | GROUND


def below(here: str) -> set[str]:
    """What a module of this floor may import."""
    if here in GROUND or here == "__init__":
        return GROUND
    return FLOORS[here] | (GROUND_OF_RUNTIME if here == "runtime" else GROUND) | {here}


def test_arrows_point_down():
    """A module imports its own floor, the ground, and the floors that the table allows."""
    assert offenders(lambda path: floors_used(path) - below(floor(path))) == {}


def test_no_circle_of_imports():
    """No module imports itself by way of others, not for types either: each can be read without those that use it.

    An import inside of a function does not count: so a choice, such as that of an engine, names what it chooses among.
    """
    graph = {name: modules_used(path) - {name} for name, path in NAMES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_nothing_heavy_is_imported_at_the_top():
    """Engines, table libraries and Kaggle's client are imported where they are used."""
    assert offenders(lambda path: {n.split(".")[0] for n in imported(at_import(tree(path).body))} & HEAVY) == {}


def test_the_engine_is_behind_one_door():
    """vLLM is imported by the engine, and by the plugin that vLLM itself loads, alone."""
    users = [place(path) for path in MODULES if any(n.split(".")[0] == "vllm" for n in imported(ast.walk(tree(path))))]
    assert users == ["runtime/kernel_plugin.py", "runtime/vllm_engine.py"]


def test_only_the_command_line_prints():
    """Below the command line nobody prints, programs of their own excepted; the runtime writes to the notebook."""
    printing = {"print", "sys.stderr.write", "click.echo", "sys.stdout.write"}
    allowed = {"runtime": {"sys.stdout.write"}}
    assert offenders(lambda path: calls(path) & printing - allowed.get(floor(path), set()), BELOW) == {}


def other_writing(path: Path) -> set[str]:
    """How a module of the command line writes, past its one writer."""
    nodes = list(ast.walk(tree(path)))
    written = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in SHOWING]
    wrong = {text for node in written if "json.dumps" in (text := ast.unparse(node))}
    if place(path) == WRITER:
        return wrong
    named = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute | ast.Name)}
    modules = {name.split(".")[0] for name in imported(nodes)}
    return wrong | named & WRITING | modules & {"rich", "logging", "warnings"}


def test_the_command_line_has_one_writer():
    """Every text of a command goes through `terminal`, which makes it visible; JSON by its own way."""
    assert offenders(other_writing, [path for path in MODULES if floor(path) == "cli"]) == {}


def test_only_the_command_line_exits():
    """Below the command line nobody ends the process, programs of their own excepted."""
    assert offenders(lambda path: calls(path) & {"sys.exit", "exit", "quit", "os._exit"}, BELOW) == {}


def test_nothing_is_evaluated():
    """No text becomes code."""
    assert offenders(lambda path: calls(path) & {"eval", "exec", "os.system"}) == {}


def joined_to_a_project(path: Path) -> set[str]:
    """The paths that a module joins to a project's folder by itself."""
    return {
        ast.unparse(node)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.left) in PROJECT_FOLDERS
    }


def test_a_projects_places_have_one_door():
    """A path is joined to a project's folder by `places`, which refuses what leads out, or only compared."""
    compared = {
        "project.root / table.path",
        "project.root / model.path",
        "self.root / model.path",
        "records / 'receipts'",
    }
    joined = {path: joined_to_a_project(path) - compared for path in MODULES}
    assert offenders(lambda path: {text for text in joined[path] if not text.endswith(" / CONFIG")}) == {}


def test_a_module_is_read_in_one_sitting():
    """A module has at most 500 lines."""
    assert offenders(lambda path: max(0, len(path.read_text(encoding="utf-8").splitlines()) - LINES)) == {}


def test_every_module_says_what_it_is():
    """A module with code begins with its docstring."""
    assert offenders(lambda path: tree(path).body and not ast.get_docstring(tree(path))) == {}


def test_every_test_says_what_holds():
    """A test's docstring is its claim."""
    functions = [
        (path.name, node)
        for path in sorted(Path(__file__).parent.rglob("test_*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert [(name, node.name) for name, node in functions if not ast.get_docstring(node)] == []


def test_each_test_module_has_a_name_of_its_own():
    """Two of one name cannot be run together: tests stand in no packages."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= {"conftest.py"}
