"""`kit model inspect` and `kit model fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import Number, open_project, project_option, project_root
from kaggle_kit.cli.terminal import say, show, show_json
from kaggle_kit.runtime.allowances import CHECKS
from kaggle_kit.runtime.kernels import KERNELS
from kaggle_kit.suggest import some

if TYPE_CHECKING:
    from kaggle_kit.model.fit import Fit
    from kaggle_kit.model.inspect import Inspection
    from kaggle_kit.model.memory import Layout
    from kaggle_kit.model.speed import Lengths
    from kaggle_kit.model.tokenizer_check import Labels
    from kaggle_kit.runtime.checkpoint import Checkpoint
    from kaggle_kit.targets import Target

_GIB = 1 << 30
_MB = 1_000_000
_DEFAULT_TARGET = "kaggle-t4x2"
_USUAL_CONTEXT = 2047
_USUAL_TOKENS = 600
_USUAL_ROWS = 25_000
_SHOWN = 30
"""Problems that a person reads before mending one."""
_FOLDER = click.Path(path_type=Path)
_target = click.option(
    "--target", "target_name", metavar="T", help="The machine (default: the notebook's, else kaggle-t4x2)."
)
_notebook = click.option(
    "--notebook", "name", metavar="NAME", help="The notebook whose prompt, labels and target are meant."
)


@click.group()
def model() -> None:
    """Look at a checkpoint before it is uploaded: is it whole, does it fit, how fast is it.

    \b
    Examples:
      kit model inspect models/yi-34b-awq --notebook lmsys --write
      kit model fit yi-34b --target kaggle-t4x2 --tokens 700
    """


@model.command("inspect")
@click.argument("folder", metavar="PATH", type=_FOLDER)
@_target
@click.option(
    "--labels", metavar="A,B,tie", help="Check that each is one token of its own, after a new line. Spaces count."
)
@_notebook
@click.option("--write", is_flag=True, help="Write manifest.json with the SHA-256 of every file, if there is no error.")
@click.option(
    "--allow",
    metavar="CHECK",
    multiple=True,
    help="Take the errors of this check, the name in [], for warnings. Can be given again.",
)
@click.option("--name", "manifest_name", metavar="NAME", help="The manifest's name (default: the table in kit.toml).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@project_option
@click.pass_context
def inspect_command(
    context: click.Context, /, folder: Path, write: bool, as_json: bool, project_folder: Path | None, **given: Any
) -> None:
    """Say what a checkpoint holds, and everything about it that would fail later, all at once.

    Reads config.json, the tokenizer and the headers of the weights, never the weights. Ends with 1 where there is an
    error; warnings alone do not change the exit code.

    If you know better than a check, --allow it: with --write the manifest records the check and what it found, the
    notebook's own plan does not refuse the model for it, and kit plan, the run and its report show it. What protects
    the machine (pickles, code) and what nothing can be scored without cannot be allowed. Without --allow, what the
    manifest records is allowed.

    \b
    Examples:
      kit model inspect models/mine
      kit model inspect models/mine --target kaggle-t4x2 --labels A,B,tie
      kit model inspect models/mine --labels " A, B, tie"
      kit model inspect models/mine --notebook lmsys --write
      kit model inspect models/mine --write --allow length --allow index
    """
    from kaggle_kit.model.inspect import inspect_model, refuse_unknown_checks, write_manifest

    allow = given["allow"]
    refuse_unknown_checks(allow)
    target, labels, longest = _asked(project_folder, given)
    found = inspect_model(
        folder,
        target=target,
        labels=labels,
        longest=longest,
        manifest=not write,
        allow=allow if allow or write else None,
    )
    written = None
    if write and not found.errors:
        name = given["manifest_name"] or _table_name(project_folder, folder)
        written = write_manifest(found, name=name, tell=None if as_json else _tell_hashing)
    if as_json:
        show_json({**found.to_json(), "target": target.name, "manifest": written and written.name})
    else:
        _show_inspection(found, target, labels)
        if written:
            show("", f"manifest.json written: {written.name}, {len(written.files)} files")
        elif write:
            show("", "manifest.json was not written: fix the errors first")
    if found.errors:
        context.exit(1)


def _asked(project_folder: Path | None, given: dict[str, Any]) -> tuple[Target, Labels | None, int | None]:
    """The target, the labels with the text before them, and the longest prompt: the notebook's, or as given."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.model.tokenizer_check import Labels
    from kaggle_kit.targets import load_target

    if given["name"] and given["labels"]:
        raise UsageError("give --labels or --notebook, not both: a notebook brings its labels")
    if given["name"]:
        from kaggle_kit.notebook.source import notebook_task

        project = open_project(project_folder)
        task, parameters = notebook_task(project, given["name"], assignments=())
        labels = Labels(list(task.labels.values()), task=task)
        chosen = given["target_name"] or project.notebook(given["name"]).target
        return load_target(chosen, project=project.root), labels, int(parameters["token_budget"])
    target = load_target(given["target_name"] or _DEFAULT_TARGET, project=project_root(project_folder))
    words = given["labels"].split(",") if given["labels"] else None
    if words and not all(words):
        raise UsageError(f"--labels {given['labels']!r} has an empty label; write them with commas between: A,B,tie")
    return target, Labels(words) if words else None, None


def _table_name(project_folder: Path | None, folder: Path) -> str | None:
    """The model's name in kit.toml, where one of its tables has this folder."""
    if project_root(project_folder) is None:
        return None
    project = open_project(project_folder)
    places = {name: (project.root / table.path).resolve() for name, table in project.models.items()}
    return next((name for name, place in places.items() if place == folder.resolve()), None)


def _count(numbers: int) -> str:
    return f"{numbers / 1e9:.2f} billion" if numbers >= 1e9 else f"{numbers / 1e6:.2f} million"


def _tell_hashing(name: str, size: int) -> None:
    if size > 100 * _MB:
        say(f"hashing {name} ({size / _GIB:.1f} GiB)")


def _show_shape(found: Inspection) -> None:
    """The architecture, and how its layers are packed."""
    shape, packing = found.architecture, found.quantisation
    if shape is None:
        return
    packed = ""
    if packing:
        way = _groups(packing.bits, packing.group_size)
        if packing.activations:
            way = f"{packing.bits} bits with {packing.activations} activations"
        packed = f", {packing.method} {way}"
    show(f"{shape.name}: {_count(found.tally.parameters)} parameters, {shape.layers} layers{packed}")
    if len(found.packings) > 1:
        ways = [f"{count} of {_groups(way.bits, way.group_size)}" for way, count in found.packings]
        show(f"packed layers: {'; '.join(ways)}")
    if shape.score_head:
        classes = [f"{number}: {name}" for number, name in enumerate(shape.score_head.classes)]
        show(f"answers with a class of its own head: {some(classes, 8)}")
    longest = f"{shape.most_tokens:,} tokens at most" if shape.most_tokens else "no length told"
    tokens = f", {found.tokenizer.tokens:,} tokens in its vocabulary" if found.tokenizer else ""
    show(f"numbers in {', '.join(found.dtypes)}; {longest}{tokens}")


def _groups(bits: int, size: int | None) -> str:
    """How a layer is packed, in words."""
    return f"{bits} bits in groups of {size or 'one output'}"


def _show_inspection(found: Inspection, target: Target, labels: Labels | None) -> None:
    if found.not_checked:
        show(f"not checked: {'; '.join(found.not_checked)}")
    _show_shape(found)
    rows = [(name, part) for name, part in found.tally.parts.items() if part.bytes]
    for name, part in rows:
        numbers = f"{part.parameters / 1e6:12,.1f} M numbers" if part.parameters else " " * 22
        show(f"  {name:<17}{numbers}  {part.bytes / _MB:12,.1f} MB")
    show(f"  {'files':<17}{len(found.folder.files):>14} files    {found.folder.bytes / _MB:12,.1f} MB")
    if found.tokenizer and found.tokenizer.label_ids:
        words = f" for {', '.join(map(repr, labels.words))}" if labels else ""
        what = "label classes" if found.architecture and found.architecture.score_head else "label tokens"
        show(f"{what}: {', '.join(map(str, found.tokenizer.label_ids))}{words}")
    if found.folder.left_out:
        show(f"not sent: {some(found.folder.left_out, 5)}")
    show()
    for problem in found.problems[:_SHOWN]:
        show(f"{'allowed' if problem.allowed else problem.severity}: {problem} [{problem.check}]")
    if len(found.problems) > _SHOWN:
        show(f"and {len(found.problems) - _SHOWN} more: see them all with --json")
    errors, all_of_them = len(found.errors), len(found.problems)
    allowed = f", {len(found.allowed)} of them allowed" if found.allowed else ""
    show(f"{errors} errors and {all_of_them - errors} warnings{allowed} for {target.name}")
    if names := sorted({problem.check for problem in found.errors if not CHECKS[problem.check].kept}):
        show(f"If you know better: {' '.join(f'--allow {name}' for name in names)}")


@model.command("fit")
@click.argument("path", metavar="PATH")
@_target
@click.option("--context", metavar="N", type=click.IntRange(min=1), help="Tokens of the longest prompt.")
@click.option("--rows", metavar="R", type=click.IntRange(min=1), help="Rows to be scored (default: 25,000).")
@click.option("--tokens", metavar="MEAN", type=click.IntRange(min=1), help="Tokens of a row (default: 600).")
@click.option(
    "--histogram", metavar="FILE", type=_FOLDER, help='Lengths: JSON {"512": 100, …} or CSV lines tokens,rows.'
)
@click.option("--data", metavar="DIR", type=_FOLDER, help="A folder with test.csv, read through the notebook's prompt.")
@_notebook
@click.option(
    "--kernel", type=click.Choice(KERNELS), help="The 4-bit kernel (default: the notebook's, else the fastest)."
)
@click.option("--hours", metavar="H", type=Number(min=0, min_open=True), help="The session (default: the target's).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@project_option
def fit_command(path: str, as_json: bool, project_folder: Path | None, **given: Any) -> None:
    """Will a model fit a target, with how long prompts, and how long does it take.

    PATH is a folder, or a model by name (yi-34b, llama-3-8b, qwen2-72b …: 4-bit AWQ, or NAME:8, NAME:16), so that one
    can ask before downloading; such a model counts as padded (kit model quantize) if the cards cannot share it
    otherwise. Times are from the target's measured rates (rates/TARGET.json, kit bench), else from a named assumption.
    A table weighs the known sizes against the same rows and hours.

    \b
    Examples:
      kit model fit yi-34b --target kaggle-t4x2 --tokens 700 --context 2000
      kit model fit models/mine --notebook lmsys --data competition
      kit model fit yi-34b --kernel marlin-int8
      kit model fit llama-3-8b:16 --histogram lengths.csv --rows 25000 --hours 9 --json
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.model.fit import fit_model, padded_shape, sizes_table
    from kaggle_kit.model.speed import kernel_of
    from kaggle_kit.targets import load_target
    from kaggle_kit.targets.rates import load_rates

    root = project_root(project_folder)
    name, kernel = given["target_name"], given["kernel"]
    if given["name"]:
        notebook = open_project(project_folder).notebook(given["name"])
        name, kernel = name or notebook.target, kernel or notebook.kernel
    target = load_target(name or _DEFAULT_TARGET, project=root)
    rates = load_rates(target.name, project=root)
    checkpoint = _checkpoint(path, target)
    if given["kernel"] and kernel_of(checkpoint, target, rates, kernel) != kernel:
        raise UsageError(f"--kernel is for models of 4 bits on a target with cards: {checkpoint.name}, {target.name}")
    most = checkpoint.architecture.most_tokens
    most_context = most - checkpoint.architecture.answer_tokens if most else _USUAL_CONTEXT
    lengths = _lengths(path, project_folder, given, most_context)
    asked = given["context"] or max(min(_USUAL_CONTEXT, most_context), lengths.longest)
    rows = given["rows"] or (lengths.rows if lengths.rows > 1 else _USUAL_ROWS)
    hours = given["hours"] or target.session_seconds / 3600
    if not Path(path).is_dir():
        checkpoint = padded_shape(checkpoint, target, context=asked, mean_tokens=lengths.mean)
    alike: dict[str, Any] = {"rows": rows, "lengths": lengths, "hours": hours, "rates": rates, "kernel": kernel}
    found = fit_model(checkpoint, target, context=asked, **alike)
    sizes = sizes_table(target, context=asked, **alike)
    if as_json:
        show_json({**found.to_json(), "sizes": [one.to_json() for one in sizes]})
        return
    _show_fit(found)
    show()
    _show_sizes(sizes)


def _checkpoint(path: str, target: Target) -> Checkpoint:
    from kaggle_kit.model.fit import named_shape
    from kaggle_kit.model.inspect import inspect_model

    if Path(path).is_dir():
        return inspect_model(Path(path), target=target, manifest=False).checkpoint()
    return named_shape(path)


def _lengths(path: str, project_folder: Path | None, given: dict[str, Any], most: int) -> Lengths:
    from kaggle_kit.errors import UsageError
    from kaggle_kit.model.speed import data_lengths, even_lengths, read_lengths

    if sum(given[key] is not None for key in ("tokens", "histogram", "data")) > 1:
        raise UsageError("give one of --tokens, --histogram and --data")
    if given["histogram"]:
        return read_lengths(given["histogram"])
    if given["data"]:
        if not given["name"] or not Path(path).is_dir():
            raise UsageError("--data needs --notebook NAME (its prompt) and a model's folder (its tokenizer)")
        from kaggle_kit.notebook.source import notebook_task

        task, parameters = notebook_task(open_project(project_folder), given["name"], assignments=())
        return data_lengths(given["data"], task=task, model=Path(path), token_budget=int(parameters["token_budget"]))
    usual = min(_USUAL_TOKENS, given["context"] or _USUAL_TOKENS, most)
    return even_lengths(given["tokens"] or usual)


def _show_fit(found: Fit) -> None:
    show(
        f"{found.checkpoint.name} on {found.target}: prompts of up to {found.context:,} tokens; {found.lengths.source}"
    )
    room = found.layouts[0].room / _GIB
    show(f"GiB a card, of {room:.1f} that the engine may use:")
    show("  layout               weights  keys  activ.  engine   total  fits  longest       step   hours")
    for layout in found.layouts:
        show(_layout_line(found, layout))
    for layout in found.layouts:
        if layout.obstacle:
            show(f"{layout.name}: {layout.obstacle}")
        if layout.padded:
            show(f"  {_padding_words(layout, layout.padded)}")
    for allowance in found.checkpoint.allowed:
        show(f"allowed {allowance}")
    show(_verdict(found))
    if found.speed:
        show(f"rate: {found.speed.flops / 1e12:.0f} TFLOP/s a card, {found.speed.assumption}")
    else:
        show(f"no time: {found.no_speed}")


def _layout_line(found: Fit, layout: Layout) -> str:
    parts, timing = layout.parts, found.timings.get(layout.name)
    sizes = (parts.weights, parts.keys, parts.activations + parts.logits, parts.inside, parts.total)
    told = "".join(f"{size / _GIB:>{width}.1f}" for size, width in zip(sizes, (8, 6, 8, 8, 8), strict=True))
    hours = f"{(timing.seconds + found.start_seconds) / 3600:8.1f}" if timing and layout.fits else "       –"
    fits = "yes" if layout.fits else "no"
    return f"  {layout.name:<20}{told}{fits:>6}{layout.longest:>9,}{layout.largest_batch:>11,}{hours}"


def _padding_words(layout: Layout, padded: Layout) -> str:
    more = (padded.inner / layout.inner - 1) * 100
    total = f"{padded.parts.total / _GIB:.1f} of {padded.room / _GIB:.1f} GiB a card"
    fits = "would fit" if padded.fits else "would not fit either"
    return (
        f"with zeros up to {padded.inner:,} ({more:.1f} % more) it {fits}, with {total}: "
        f"kit model quantize --split {layout.parallel} adds them to a model in full precision"
    )


def _verdict(found: Fit) -> str:
    if found.refusal:
        return f"It cannot be used there: {found.refusal}."
    best = found.best
    if best is None:
        pipelines = [layout.name for layout in found.layouts if layout.fits]
        more = f" ({', '.join(pipelines)} would, and the notebook does not plan pipelines)" if pipelines else ""
        padded = [layout.name for layout in found.layouts if layout.padded and layout.padded.fits]
        more = f" ({', '.join(padded)} would, padded)" if padded else more
        return f"It does not fit{more}: take a smaller model, fewer bits, or --context of less."
    if not found.timings:
        return f"It fits: {best.name}."
    timing = found.timings[best.name]
    start = f"the start's {found.start_seconds // 60} minutes included"
    total = (timing.seconds + found.start_seconds) / 3600
    limit = f"up to {timing.most_tokens:,} tokens a row end within {found.hours:g} h"
    verdict = "in time" if found.in_time else "NOT in time"
    return f"{best.name}: {found.rows:,} rows take {total:.1f} h, {start}: {verdict}; {limit}."


def _show_sizes(sizes: list[Fit]) -> None:
    first = sizes[0]
    show(f"4-bit models, {first.rows:,} rows, {first.lengths.source}, {first.hours:g} h; hours with the start:")
    show("  model              weights  layout             hours  tokens a row in time")
    for one in sizes:
        name = one.checkpoint.name.partition(",")[0]
        weights = one.checkpoint.weight_bytes / _GIB
        best = one.best
        if best is None:
            why = one.refusal or "does not fit"
            show(f"  {name:<18}{weights:>6.1f}   {why}")
            continue
        timing = one.timings.get(best.name)
        time = f"{(timing.seconds + one.start_seconds) / 3600:>6.1f}  {timing.most_tokens:,}" if timing else "     –  –"
        show(f"  {name:<18}{weights:>6.1f}   {best.name:<18}{time}")
