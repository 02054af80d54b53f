"""A notebook's task, read from its source without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, SourceError
from kaggle_kit.notebook.parameters import override, parse_assignments
from kaggle_kit.notebook.source import read_source
from kaggle_kit.project.config import CONFIG
from kaggle_kit.runtime.job import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.notebook.source import Source
    from kaggle_kit.project import Project

NEEDED = ("labels", "prior", "fields", "template")
OPTIONAL = ("row_format", "swap", "rules", "chat")


def literal_task(source: Source, values: Mapping[str, Any]) -> Task | None:
    """The task that the plain `values` of a source make; None where the source computes a part of it.

    Raises DataError where the parts make no task.
    """
    computed = [part for part in OPTIONAL if source.defines(part) and part not in values]
    if computed or not set(NEEDED) <= set(values):
        return None
    parts = {part: values[part] for part in (*NEEDED, *OPTIONAL) if part in values}
    try:
        return Task(**parts)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{', '.join(parts)} make no task ({error}): labels, prior and fields are dicts by column, "
            f"template and row_format are texts"
        ) from error


def notebook_task(project: Project, name: str, *, assignments: Sequence[str]) -> tuple[Task, dict[str, Any]]:
    """The task of a notebook and its parameters' values.

    Raises SourceError where the source computes a part of the task: it could only be known by running it.
    """
    notebook = project.notebook(name)
    source = read_source(project.source(name))
    where = f"{project.root / CONFIG}: notebooks.{name}.parameters"
    parameters: dict[str, Any] = {parameter.name: parameter.default for parameter in source.parameters}
    parameters |= override(source.parameters, notebook.parameters, where=where)
    parameters |= parse_assignments(source.parameters, assignments)
    task = literal_task(source, source.literals() | parameters)
    if task is None:
        raise SourceError(
            f"{source.path} computes a part of its task ({', '.join((*NEEDED, *OPTIONAL))}); "
            f"write these as plain values, so that they can be used without the notebook"
        )
    if "token_budget" not in parameters:
        raise SourceError(f"{source.path} has no parameter token_budget")
    return task, parameters
