"""A receipt: what a push made, read back from Kaggle and compared; later how its run ended, and its score."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from kaggle_kit.errors import OutsideError, ProjectError, RemoteError
from kaggle_kit.files import write_atomic
from kaggle_kit.outside import read_json
from kaggle_kit.places import inside
from kaggle_kit.remote.client import notebooks
from kaggle_kit.remote.client.machines import same_accelerator
from kaggle_kit.remote.client.notebooks import source_identity
from kaggle_kit.remote.references import bare, parse, versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.plan.plan import Plan
    from kaggle_kit.remote.plan.resources import Notebook
    from kaggle_kit.remote.push import Applied

FOLDER = "receipts"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NOTEBOOK = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was asked, and what Kaggle says of it: `found` None where it says nothing.

    `note`: what of it Kaggle does not say, in words, where it says the rest.
    """

    what: str
    asked: Any
    found: Any
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether Kaggle says what was asked; where it says nothing, nothing is known."""
        return self.found is None or self.found == self.asked

    @property
    def unchecked(self) -> str:
        """What of it could not be checked, and why; empty where all of it was."""
        if self.found is None:
            return f"{self.what} ({self.note or 'Kaggle does not say'})"
        return f"{self.what} ({self.note})" if self.note else ""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One version of a notebook. Times are UTC in ISO form; `made_by` is the project's commit.

    `inputs`: each dataset's and model's reference, version, digest and bytes. `run`, `output` and `submission` are
    filled in when they are known.
    """

    name: str
    notebook: str
    version: int
    url: str
    source: str
    build: str
    pushed: str
    made_by: str | None
    target: str | None
    inputs: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    server: str
    run: dict[str, Any] = field(default_factory=dict)
    output: tuple[dict[str, Any], ...] = ()
    submission: dict[str, Any] = field(default_factory=dict)

    @property
    def differing(self) -> tuple[Check, ...]:
        """What Kaggle has otherwise than it was asked."""
        return tuple(check for check in self.checks if not check.agrees)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What Kaggle does not say whether it has it as it was asked."""
        return tuple(check.unchecked for check in self.checks if check.unchecked)

    @property
    def online(self) -> bool:
        """Whether the version's run has internet, as asked or as Kaggle says: no competition takes such a version."""
        return any(check.what == "internet" and True in (check.asked, check.found) for check in self.checks)

    @property
    def makes_model(self) -> bool:
        """Whether the version was to have internet: such a version makes a model, and is good for nothing else."""
        return any(check.what == "internet" and check.asked is True for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        body = asdict(self)
        body["checks"] = [asdict(check) | {"agrees": check.agrees} for check in self.checks]
        return {"format": FORMAT, **body}


def read_back(
    plan: Plan,
    applied: Applied,
    resource: Notebook,
    *,
    version: int,
    client: Client,
    pushed: str,
    made_by: str | None,
) -> Receipt:
    """Ask Kaggle for the `version` that was pushed, and note beside each thing that was asked what it has.

    `pushed` is the time of the push, `made_by` the project's commit. Raises RemoteError where Kaggle does not show
    the version.
    """
    made, settings = applied.notebooks.get(resource.key), resource.settings
    url = made.url if made else notebooks.page_of(resource.reference)
    found = client.settle(lambda: notebooks.read(client, resource.reference, version=version, fresh=True))
    if found is None:
        raise RemoteError(
            f"notebook {resource.reference} version {version} was pushed, but Kaggle does not show it yet: "
            f"see {url}, and run kit plan to see what is there"
        )

    inputs = plan.inputs(resource)
    datasets = set(map(bare, settings.datasets))
    pinned = [one for one in inputs if bare(one) in datasets]
    checks = (
        Check(what="source", asked=resource.source, found=source_identity(found.source)),
        Check(what="internet", asked=settings.internet, found=found.internet),
        _machine(settings.accelerator, found),
        Check(what="private", asked=settings.private, found=found.private),
        _sources("datasets", pinned, found.datasets),
        _sources("models", settings.models, found.models),
        _sources("competitions", settings.competitions, found.competitions),
    )

    return Receipt(
        name=resource.name,
        notebook=resource.reference,
        version=version,
        url=url,
        source=resource.source,
        build=resource.digest,
        pushed=pushed,
        made_by=made_by,
        target=resource.target,
        inputs=tuple(_input(plan, applied, one) for one in inputs),
        checks=checks,
        server=client.login.endpoint.name,
    )


def _machine(asked: str | None, seen: notebooks.RemoteNotebook) -> Check:
    """The accelerator that was asked for beside the one that Kaggle names, whatever its word for the same one."""
    same = same_accelerator(asked, seen)
    shown = seen.machine_shape or ""
    found = None if same is None else (asked or "") if same else shown
    note = f"Kaggle says {shown!r}" if same is None and shown else ""
    return Check(what="accelerator", asked=asked or "", found=found, note=note)


def _sources(what: str, asked: Iterable[str], there: Iterable[str]) -> Check:
    """The sources that were asked beside those on Kaggle, in their normal form; without versions if it gives none."""
    wanted, found = versions(asked), versions(there)
    untold = [name for name, version in wanted.items() if version is not None and found.get(name, 0) is None]
    return Check(
        what=what,
        asked=sorted(_source(name, None if name in untold else wanted[name]) for name in wanted),
        found=sorted(_source(name, version if wanted.get(name, version) else None) for name, version in found.items()),
        note=f"Kaggle does not say in which version it attached {', '.join(untold)}" if untold else "",
    )


def _source(name: str, version: int | None) -> str:
    return name if version is None else f"{name}/{version}"


def _input(plan: Plan, applied: Applied, reference: str) -> dict[str, Any]:
    parsed = parse(reference)
    kind, bare = ("model" if parsed.framework else "dataset"), str(parsed.bare)
    step = plan.step(f"{kind} {bare}")
    number = applied.versions.get(f"{kind} {bare}", parsed.version)
    resource = step.resource if step else None
    return {
        "kind": kind,
        "reference": bare,
        "version": number,
        "digest": resource.digest if resource else "",
        "bytes": resource.size if resource else 0,
    }


def record_name(records: Path, name: str, version: int, *, notebook: str) -> str:
    """What the receipt of a version, and the folder of its run, are called: `NAME-vN`.

    `NAME-vN.OWNER.SLUG` where the receipt of that name is another notebook's: a table of kit.toml becomes another
    notebook with another title or owner.
    """
    plain = f"{name}-v{version}"
    own = f"{plain}.{notebook.replace('/', '.')}"
    path = inside(records, Path(FOLDER, f"{plain}.json"))
    taken = path.is_file() and read_receipt(path).notebook != notebook
    return own if taken or (path.parent / f"{own}.json").is_file() else plain


def save_receipt(records: Path, receipt: Receipt) -> Path:
    """Write `records`/receipts/NAME-vN.json (see `record_name`) whole, in place of an earlier state of it."""
    stem = record_name(records, receipt.name, receipt.version, notebook=receipt.notebook)
    path = inside(records, Path(FOLDER, f"{stem}.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(receipt.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def load_receipts(records: Path, name: str | None = None) -> tuple[Receipt, ...]:
    """All receipts, of one table of kit.toml or of all, by name, notebook and version.

    Raises ProjectError for a damaged one.
    """
    found = [read_receipt(inside(records, path)) for path in inside(records, FOLDER).glob("*.json")]
    chosen = [receipt for receipt in found if name in (None, receipt.name)]
    return tuple(sorted(chosen, key=lambda receipt: (receipt.name, receipt.notebook, receipt.version)))


def load_receipt(records: Path, name: str, version: int, *, notebook: str) -> Receipt | None:
    """The receipt of one version of `notebook` (owner/slug), None where it was not pushed from here."""
    path = inside(records, Path(FOLDER, f"{record_name(records, name, version, notebook=notebook)}.json"))
    return read_receipt(path) if path.is_file() else None


def read_receipt(path: Path) -> Receipt:
    """The receipt of a file. Raises ProjectError where it is none."""
    try:
        body = read_json(path, follow=True)
        if body.pop("format") != FORMAT:
            raise ProjectError(f"{path} was written by another version of kit; update kaggle-kit")
        # As JSON, whose lists become the tuples of a receipt.
        receipt = _reader().validate_json(json.dumps(body), strict=True)
    except OutsideError as error:
        raise ProjectError(f"{path} is no receipt of kit ({error}); take it out of the folder") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise ProjectError(f"{path} is no receipt of kit ({what}); take it out of the folder") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ProjectError(f"{path} is no receipt of kit ({error!r}); take it out of the folder") from error
    if not (_NAME.fullmatch(receipt.name) and _NOTEBOOK.fullmatch(receipt.notebook)):
        raise ProjectError(f"{path} is no receipt of kit: its names would not be file names; take it out")
    return receipt


@cache
def _reader() -> TypeAdapter[Receipt]:
    return TypeAdapter(Receipt)


def with_run(receipt: Receipt, state: notebooks.RunState) -> Receipt:
    """The receipt with what Kaggle says of the run; a failure's words are kept to one line."""
    failure = re.sub(r"\s+", " ", state.failure).strip()[:500] if state.failure else None
    return replace(receipt, run={**receipt.run, "state": state.state, "failure": failure})
