"""The program that fills a template in, in a process of its own: a template may be a stranger's.

It gets a request on standard input and answers on standard output, both JSON. The template runs in Jinja's sandbox,
which keeps it from Python's objects; the process has little memory and little time, whatever a loop would take.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, OutsideError, SourceError
from kaggle_kit.outside import read_text
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import jinja2

    _Folders = Sequence[tuple[str, list[str] | None]]

_TEMPLATE_BYTES = 1 << 20
_LISTED = 200
_WITHOUT = ("lipsum",)
"""Functions of Jinja's that a template does not get: what they give is another on every run."""


@dataclass
class _Placer:
    """What a template calls to place the author's cells; keeps account of those already placed.

    `texts`: name → the cell in percent form, in the source's order.
    """

    source: str
    texts: Mapping[str, str]
    placed: dict[str, None] = field(default_factory=dict)

    def cell(self, name: str) -> str:
        """The author's cell `name`."""
        if name not in self.texts:
            raise SourceError(
                f"the template places a cell {name!r}, which {self.source} does not have"
                f"{did_you_mean(name, self.texts)}; its cells: {', '.join(self.texts)}"
            )
        if name in self.placed:
            raise SourceError(f"the template places the cell {name!r} twice")
        self.placed[name] = None
        return self.texts[name]

    def cells(self) -> str:
        """All of the author's cells that no call has placed so far, in the source's order."""
        return "\n".join(self.cell(name) for name in self.texts if name not in self.placed)


class _LeavesError(Exception):
    """A template is a link that leads out of the project."""


def main() -> None:
    """Answer the request on standard input, with little memory and time left to this process."""
    request = json.load(sys.stdin)
    import jinja2.sandbox  # noqa: F401 - before memory is short

    for what, most in (
        (resource.RLIMIT_AS, request["memory"]),
        (resource.RLIMIT_CPU, request["seconds"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(what, (most, most))
    sys.stdout.write(json.dumps(answer(request)))


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """`{"text", "placed"}`, or `{"error"}` or `{"leaves"}` and nothing else."""
    import jinja2.sandbox

    try:
        return _filled_in(request, jinja2.sandbox.ImmutableSandboxedEnvironment)
    except _LeavesError as error:
        return {"leaves": str(error)}
    except KitError as error:
        return {"error": str(error)}
    except MemoryError:
        most = request["memory"] >> 20
        return {"error": f"the template {request['template']} takes more than {most} MB of memory"}


def _filled_in(request: Mapping[str, Any], make: type[jinja2.Environment]) -> dict[str, Any]:
    import jinja2

    environment = make(
        loader=_loader(request["folders"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is Python, not HTML
    )
    environment.filters["python"] = python_literal
    for name in _WITHOUT:
        del environment.globals[name]
    placer, defined = _Placer(request["source"], request["cells"]), frozenset(request["defined"])
    calls = {"cell": placer.cell, "cells": placer.cells, "defines": lambda name: name in defined}
    text = _text(
        environment,
        request["template"],
        {**request["context"], **calls},
        folders=request["folders"],
        most=request["most"],
    )
    return {"text": text, "placed": list(placer.placed)}


def _loader(folders: _Folders) -> jinja2.BaseLoader:
    """Templates from `folders`, the first that has one: each a folder, and the places to which a link in it may lead.

    None for a folder of kit's own, which links to wherever its installer has put it.
    """
    import jinja2

    def load(name: str) -> str | None:
        parts = jinja2.loaders.split_template_path(name)
        for folder, homes in folders:
            path = Path(folder).joinpath(*parts)
            if not os.path.lexists(path) or path.is_dir():
                continue
            if homes is not None and not any(path.resolve().is_relative_to(home) for home in homes):
                raise _LeavesError(str(path))
            return read_text(path, most_bytes=_TEMPLATE_BYTES, follow=True)
        return None

    return jinja2.FunctionLoader(load)


def _names(folders: _Folders) -> Iterator[str]:
    """The templates that there are, the first few hundred."""
    left = _LISTED
    for folder, _ in folders:
        for place, _, files in os.walk(folder):
            for file in files:
                if file.endswith(".j2") and (left := left - 1) >= 0:
                    yield Path(place, file).relative_to(folder).as_posix()
            if left <= 0:
                return


def _text(
    environment: jinja2.Environment, template: str, context: Mapping[str, Any], *, folders: _Folders, most: int
) -> str:
    """What the template makes of `context`. Raises SourceError if it fails, or makes more than `most` letters."""
    import jinja2

    try:
        text = "".join(_bounded(environment.get_template(template).generate(context), template, most=most))
        text.encode()
        return text
    except jinja2.TemplateNotFound as error:
        known = sorted({*_names(folders)})
        raise SourceError(
            f"there is no template {error.name!r}{did_you_mean(str(error.name), known)}; known: {', '.join(known)}"
        ) from error
    except jinja2.TemplateSyntaxError as error:
        raise SourceError(f"the template {error.name}, line {error.lineno}: {error.message}") from error
    except jinja2.UndefinedError as error:
        known = sorted(key for key in context if not callable(context[key]))
        raise SourceError(f"the template {template}: {error.message}; a template may use {', '.join(known)}") from error
    except jinja2.TemplateError as error:  # the sandbox's refusals are among them
        raise SourceError(f"the template {template}: {error}") from error
    except OutsideError as error:
        raise SourceError(f"the template {template}, or one that it extends: {error}") from error
    except RecursionError as error:
        raise SourceError(
            f"the template {template} extends or includes itself; give yours another name than the one it extends"
        ) from error
    except UnicodeEncodeError as error:
        raise SourceError(f"the template {template} makes half of a character (a surrogate alone)") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise SourceError(f"the template {template} fails: {type(error).__name__}: {error}") from error


def _bounded(pieces: Iterator[str], template: str, *, most: int) -> Iterator[str]:
    """The pieces. Raises SourceError as soon as they have more than `most` letters."""
    left = most
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise SourceError(f"the template {template} makes more than {most:,} letters: no notebook is so long")
        yield piece


def python_literal(value: Any) -> str:
    """A Python literal of a value made of plain parts, dict keys sorted. Raises SourceError for any other value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {python_literal(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        raise SourceError(f"the filter python takes finite numbers, not {value}")
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise SourceError(f"the filter python takes plain values, not {type(value).__name__}")
