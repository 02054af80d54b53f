"""What Kaggle would refuse, change or break, found before anything is sent; all of it at once."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError
from kaggle_kit.project.config import slug_of
from kaggle_kit.remote.client.datasets import SLUG_LETTERS, SUBTITLE_LETTERS, TITLE_LETTERS
from kaggle_kit.remote.client.notebooks import kernel_name
from kaggle_kit.remote.plan.resources import Dataset, Model, Notebook, Problem
from kaggle_kit.runtime.manifest import KIT_WHEEL, files_digest, kaggle_name, read_manifest
from kaggle_kit.secrets import ALLOWED
from kaggle_kit.secrets.files import is_key_file, secrets_in_bytes, secrets_in_file, secrets_in_text
from kaggle_kit.suggest import did_you_mean, some

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from kaggle_kit.remote.plan.resources import Artifact, Resource, SentFile
    from kaggle_kit.secrets.reader import Finding

PLACEHOLDER = "your-kaggle-name"
"""The owner in this repository's own `kit.toml`."""
ACCELERATORS = (
    "NvidiaTeslaT4",
    "NvidiaL4",
    "NvidiaL4X1",
    "NvidiaTeslaA100",
    "NvidiaH100",
    "NvidiaRtxPro6000",
    "TpuV5E8",
    "TpuV6E8",
)
"""Kaggle's machine shapes: documentation of its client 2.2.5 and its pull request 1198 (September 2026)."""
RETIRED = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": None,
    "TpuV2256": None,
}
"""Retired shape → what the server puts in its place, None for a machine without any (client 2.2.5)."""
LICENCES = (
    *("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0"),
    *("CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-3.0-IGO", "CC-BY-NC-SA-4.0", "GPL-2.0", "GPL-3.0", "LGPL-3.0"),
    *("AGPL-3.0", "FDL-1.3", "apache-2.0", "ODbL-1.0", "DbCL-1.0", "ODC-BY-1.0", "PDDL", "CDLA-Permissive-1.0"),
    *("CDLA-Sharing-1.0", "US-Government-Works", "EU-ODP-Legal-Notice", "copyright-authors", "other", "unknown"),
)
"""Licences of datasets: documentation of Kaggle's client, read in November 2026."""
TOP_FILES = 50
"""Files at the top of a dataset; those in folders do not count."""
NOTEBOOK_BYTES = 1_000_000
"""From here on a notebook's source is worth a word: Kaggle's own limit is not documented."""
_TITLE = {"notebook": range(5, 51), "dataset": TITLE_LETTERS, "model": range(3, 51)}
_SLUG = {"notebook": range(5, 51), "dataset": SLUG_LETTERS, "model": range(3, 51)}
_SIGNS = re.compile(r'[@&\\:*?"<>|\x00-\x1f\x7f]')
"""Signs with which an upload fails: `@` and `&` later and without a word (issue 430 of Kaggle's client), others by
caution."""
_UNPACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".7z", ".rar")
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".bin")


def check(
    resources: Sequence[Resource],
    *,
    unproved: Callable[[str], str | None],
    stale: Callable[[Notebook], str | None],
    config: Path | None = None,
    known_secrets: Iterable[str] = (),
    passed: Collection[str] = (),
    rehearsal: bool = False,
) -> tuple[Problem, ...]:
    """Everything that speaks against pushing `resources`, their own problems included.

    `unproved` says of a target why its wheelhouse must not be shipped, `stale` of a notebook why its build is not what
    its sources give; both None where all is well. `config` is the project's file, whose texts become titles and
    parameters. `known_secrets` are texts that must stand nowhere: the login's, in all its forms.
    `passed` are SHA-256s of files that were pushed before, and are not searched for secrets again.
    In a `rehearsal` the owner may be anybody.
    """
    secrets = tuple(known_secrets)
    problems = _leaks_of_config(config, secrets) if config is not None else []
    for resource in resources:
        problems += resource.problems
        if not resource.sent:
            continue
        said = [_names(resource), _files(resource), _leaks(resource, secrets, passed)]
        match resource:
            case Notebook():
                said += [_notebook(resource), _outdated(resource, unproved, stale), _other_kit(resource, resources)]
            case Dataset() | Model():
                said += [_contents(resource), _quality(resource)]
        problems += [
            resource.problem(what, next_step, warning=warning) for what, next_step, warning in chain.from_iterable(said)
        ]

    owners = {resource.owner for resource in resources if resource.sent}
    if PLACEHOLDER in owners and not rehearsal:
        problems.append(
            Problem(resource="kit.toml", what=f"{PLACEHOLDER} is no account of Kaggle's", next_step="put yours there")
        )
    return tuple(problems)


_Said = tuple[str, str, bool]
"""What, the next step, and whether it is a warning only."""


def _names(resource: Resource) -> Iterator[_Said]:
    titles, slugs = _TITLE[resource.kind], _SLUG[resource.kind]
    if len(resource.title) not in titles:
        yield (
            f"the title {resource.title!r} has {len(resource.title)} letters, Kaggle takes {titles[0]} to {titles[-1]}",
            "change it in kit.toml (for a wheelhouse: the name of its dataset)",
            False,
        )
    if len(resource.slug) not in slugs:
        yield (
            f"{resource.slug!r} has {len(resource.slug)} letters, Kaggle takes {slugs[0]} to {slugs[-1]}",
            "change the reference in kit.toml",
            False,
        )
    if resource.subtitle and len(resource.subtitle) not in SUBTITLE_LETTERS:
        yield f"the subtitle has {len(resource.subtitle)} letters, Kaggle takes 20 to 80", "change it", False


def _notebook(resource: Notebook) -> Iterator[_Said]:
    settings = resource.settings
    again = f"build it again with: kit build {resource.name}"
    if (made := slug_of(resource.title)) != resource.slug:
        yield (
            f"Kaggle would make {made!r} of the title {resource.title!r}, and the notebook is to be {resource.slug!r}",
            "use plain letters, digits and single signs in the title",
            False,
        )
    yield from _internet(resource.name, asked=resource.online, built=settings.internet)
    if not kernel_name(resource.text):
        yield "the notebook names no kernel (metadata.kernelspec), and would fail after queueing", again, False
    yield from _accelerator(settings.accelerator, gpu=settings.gpu)
    size = next((file.size for file in resource.files if file.path == settings.code_file), 0)
    if size > NOTEBOOK_BYTES:
        yield f"the source has {size:,} bytes, which Kaggle may refuse", "move data out of it into a dataset", True
    if not settings.private:
        yield "everybody will see it", "unless that is meant, set private = true in kit.toml", True


def _internet(name: str, *, asked: bool, built: bool) -> Iterator[_Said]:
    """Whether the build has the internet that `kit.toml` asks for, and what that means."""
    again = f"build it again with: kit build {name}"
    if built and not asked:
        yield "internet is on, and kit.toml does not ask for it: the competition takes no such notebook", again, False
    elif asked and not built:
        yield "kit.toml asks for internet, and the build has it off", again, False
    elif asked:
        yield "its run has internet, so no version of it can be handed in", "fetch what it makes with: kit output", True


def _accelerator(shape: str | None, *, gpu: bool) -> Iterator[_Said]:
    if shape is None:
        if gpu:
            yield "it asks for a GPU and not for which: Kaggle would choose", "name the target's accelerator", False
    elif shape in RETIRED:
        instead = RETIRED[shape]
        would = f"run it on {instead}" if instead else "run it on a machine without any"
        yield f"the accelerator {shape} is retired, and Kaggle would {would}", "choose another target", False
    elif shape not in ACCELERATORS:
        yield (
            f"Kaggle has no accelerator {shape!r}{did_you_mean(shape, ACCELERATORS)}",
            f"correct it in the target; known: {', '.join(ACCELERATORS)}",
            False,
        )


def _outdated(
    resource: Notebook, unproved: Callable[[str], str | None], stale: Callable[[Notebook], str | None]
) -> Iterator[_Said]:
    if why := stale(resource):
        yield why, f"build it again with: kit build {resource.name}", False
    # With internet it installs none of the target's wheels.
    if not resource.online and (why := unproved(resource.target)):
        yield why, "then plan again", False


def _other_kit(resource: Notebook, resources: Sequence[Resource]) -> Iterator[_Said]:
    """Whether a dataset that is sent with a notebook brings the runtime of another kit than the one that built it."""
    attached = resource.settings.datasets if resource.kit_wheel else ()
    again = f"kit wheels fetch --target {resource.target}, then kit build {resource.name}"
    for part in resources:
        files = part.files if isinstance(part, Dataset) and part.reference in attached else ()
        for file in files:
            if file.path.startswith(KIT_WHEEL) and file.sha256 != resource.kit_wheel:
                what = f"{file.path} of {part.reference} is of another state of kit than the notebook's build"
                yield what, f"bring both to the present one with: {again}", False


def _contents(resource: Artifact) -> Iterator[_Said]:
    """What is wrong with a dataset or a model beyond the names of its files."""
    if isinstance(resource, Dataset) and resource.licence not in LICENCES:
        near = did_you_mean(str(resource.licence), LICENCES)
        yield f"Kaggle has no licence {resource.licence!r}{near}", f"known: {', '.join(LICENCES)}", False
    top = [file.path for file in resource.files if "/" not in file.path]
    if len(top) > TOP_FILES:
        yield f"it has {len(top)} files at the top, Kaggle takes {TOP_FILES}", "put them into a folder", False
    if pickles := [file.path for file in resource.files if file.path.endswith(_PICKLES)]:
        yield (
            f"{some(pickles, 1)} may hold a pickle, which runs code where it is loaded",
            "save the weights as safetensors",
            True,
        )


def _quality(resource: Artifact) -> Iterator[_Said]:
    """Where `kit.toml` limits how far a model may be from its reference: was it compared as it is, and does it pass."""
    file = resource.manifest()
    if resource.most_kl is None or file is None:
        return
    manifest = read_manifest(file.source)
    quality = manifest.extra.get("quality")
    again = "run: kit model compare REFERENCE ITS-FOLDER --record"
    if not isinstance(quality, dict) or not isinstance(quality.get("kl_mean"), int | float):
        yield f"most_kl = {resource.most_kl:g}, and nobody has compared it with its reference", again, False
    elif quality.get("files_sha256") != files_digest(manifest):
        yield "its files have changed since it was compared with its reference", again, False
    elif quality["kl_mean"] > resource.most_kl:
        what = f"its mean KL from its reference is {quality['kl_mean']:.5f}, above most_kl = {resource.most_kl:g}"
        yield what, "quantise it with more or other rows, or raise most_kl", False


def _files(resource: Resource) -> Iterator[_Said]:
    """What Kaggle would do to the names of files."""
    taken: dict[str, str] = {}
    for file in resource.files:
        shown = "/".join(map(kaggle_name, file.path.split("/")))
        if _SIGNS.search(file.path) or shown != file.path or any(p != p.strip() for p in file.path.split("/")):
            yield f"Kaggle refuses or changes the name {file.path!r}", "use plain letters, digits, - _ and .", False
        if (other := taken.setdefault(shown.casefold(), file.path)) != file.path:
            yield f"{other!r} and {file.path!r} are one name but for capitals", "rename one", False
        if file.path.lower().endswith(_UNPACKED):
            yield f"Kaggle unpacks {file.path}, and the file itself is gone", "put there what it holds", False


def _leaks(resource: Resource, known: tuple[str, ...], passed: Collection[str]) -> Iterator[_Said]:
    for what, text in (("the title", resource.title), ("the subtitle", resource.subtitle)):
        for finding in secrets_in_text(text, path=what, known=known):
            yield f"{what} holds what looks like {finding.what}", "change it, and revoke the secret", False
    for file in resource.files:
        if file.sha256 not in passed:
            yield from _leaks_of_file(file, known)


def _leaks_of_file(file: SentFile, known: tuple[str, ...]) -> Iterator[_Said]:
    try:
        named = is_key_file(file.source, file.path)
        if file.held is None:
            findings = secrets_in_file(file.source, path=file.path, known=known)
        else:
            findings = secrets_in_bytes(file.held, path=file.path, known=known)
    except OSError as error:
        raise KitError(f"{file.source} cannot be read: {error.strerror}") from error
    if named:
        next_step = f"take it out of the folder; if it holds no login, write {ALLOWED} in it or give it another name"
        yield f"{file.path} is a file for a login or a private key, by its name", next_step, False
    yield from map(_told, findings)


def _leaks_of_config(config: Path, known: tuple[str, ...]) -> list[Problem]:
    """The secrets of `kit.toml`, whose texts go into notebooks and onto Kaggle's pages."""
    try:
        findings = secrets_in_file(config, path=config.name, known=known)
    except OSError as error:
        raise KitError(f"{config} cannot be read: {error.strerror}") from error
    said = [_told(finding) for finding in findings]
    return [Problem(resource=config.name, what=what, next_step=next_step) for what, next_step, _ in said]


def _told(finding: Finding) -> _Said:
    return (
        f"{finding.path}, line {finding.line} holds what looks like {finding.what}",
        f"take it out, and revoke it if it was ever shared; for a false alarm write {ALLOWED} on the line",
        False,
    )
