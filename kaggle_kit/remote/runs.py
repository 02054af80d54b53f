"""The run of one pushed version: waiting for its end, bringing its log and output here, handing it in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, OutsideError, RemoteError, UsageError
from kaggle_kit.files import refusal, sha256_file, write_atomic
from kaggle_kit.outside import read_json
from kaggle_kit.remote.client import competitions, notebooks, outputs
from kaggle_kit.remote.diagnosis import Finding, decode, read_log
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.record import LOG, SUBMISSION
from kaggle_kit.secrets import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.outputs import Progress
    from kaggle_kit.remote.receipt import Receipt

_OTHER_LOG = "kaggle-"
_LOGS = re.compile(r"(?:kaggle-)*log\.txt")
_UNKNOWN_SECONDS = 600.0
"""How long a run may be in no state that kit knows before that is an error; a new version is not found at first."""


@dataclass(frozen=True)
class Fetched:
    """What a run left, in a folder here: its log, the files of its output, and what of it did not come, with why."""

    folder: Path
    log: Path
    files: tuple[Path, ...]
    missing: tuple[str, ...] = ()


def wait_ended(
    client: Client, ref: str, version: int, *, deadline: float, tell: Callable[[notebooks.RunState], None]
) -> notebooks.RunState:
    """The state in which the run of `version` ended; `tell` hears each state before it.

    `deadline` is a moment of `client.clock()` (seconds). Raises RemoteError where it passes, or where Kaggle says
    nothing of the version for ten minutes.
    """
    said: notebooks.RunState | None = None
    unknown_since: float | None = None
    page = notebooks.page_of(ref)
    silent = min(_UNKNOWN_SECONDS, 10 * client.patience.settle_s)
    patient = client.until(deadline)
    while True:
        state = notebooks.status(patient, ref, version)
        if state != said:
            tell(state)
            said = state
        if state.ended:
            return state

        now = client.clock()
        if state.state != notebooks.UNKNOWN:
            unknown_since = None
        elif unknown_since is None:
            unknown_since = now
        elif now - unknown_since > silent:
            raise RemoteError(
                f"notebook {ref} version {version}: Kaggle has said nothing of its run for {silent:.0f} s "
                f"(last seen: {state.words}); see {page}, then ask again with kit status"
            )
        if now >= deadline:
            raise RemoteError(
                f"notebook {ref} version {version} has not ended in time (last seen: {state.words}); it goes on at "
                f"Kaggle, and cannot be stopped from here: see {page}, then ask again with kit status"
            )
        client.sleep(client.patience.poll_s)


def fetch(
    client: Client,
    ref: str,
    version: int,
    folder: Path,
    *,
    ended: bool,
    complete: bool = False,
    patterns: Sequence[str] = ("*",),
    progress: Progress | None = None,
) -> Fetched:
    """Bring the log and the output's files that match `patterns` into `folder`.

    A run that left nothing gives an empty log and no files. Of one that has `ended` the log is looked for for a while,
    of one that is `complete` the files too, since Kaggle may not be done with keeping them. A log that is here stays
    where Kaggle has none any more. What does not come is in `missing`. Raises RemoteError where Kaggle lists neither
    log nor files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = outputs.settled(client, ref, version, outputs.log) if ended else outputs.log(client, ref, version)
    listing = partial(outputs.settled, ask=outputs.list_output) if complete else outputs.list_output
    names = {part for file in listing(client, ref, version) for part in PurePosixPath(file.name).parts[:1]}
    log = folder / _log_name(names)
    missing = []
    if raw or not log.is_file():
        try:
            write_atomic(log, mask(read_log(raw).text))
        except OSError as error:
            missing.append(f"the log: {refusal(error)}")

    wanted = patterns if tuple(patterns) != ("*",) or names else ()
    brought = outputs.output(client, ref, version, folder, patterns=wanted, progress=progress)
    missing += [f"{name}: {why}" for name, why in brought.missing.items()]
    return Fetched(folder, log, brought.files, tuple(missing))


def _log_name(names: Iterable[str]) -> str:
    """A name for the log beside an output of these names: `log.txt`, or a longer one than any such in the output."""
    taken = [name for name in names if _LOGS.fullmatch(name)]
    return _OTHER_LOG + max(taken, key=len) if taken else LOG


def kept_log(folder: Path) -> Path:
    """The log in a folder of `fetch`: where there are several such names, the longest is not the run's own file."""
    names = [path.name for path in folder.glob(f"*{LOG}") if _LOGS.fullmatch(path.name)]
    return folder / max(names, key=len, default=LOG)


def output_facts(fetched: Fetched) -> tuple[dict[str, Any], ...]:
    """Path, size in bytes and SHA-256 of each file, for the receipt."""
    return tuple(
        {
            "path": file.relative_to(fetched.folder).as_posix(),
            "size": file.stat().st_size,
            "sha256": sha256_file(file),
        }
        for file in sorted(fetched.files)
    )


def why_failed(fetched: Fetched, state: notebooks.RunState) -> list[Finding]:
    """What the log and Kaggle's own message say of a failed run, the likeliest cause first."""
    log = fetched.log.read_text(encoding="utf-8") if fetched.log.is_file() else ""
    return decode(log, failure_message=state.failure or "")


def refuse_unfit(receipt: Receipt) -> None:
    """Raise UsageError where the receipt's version ran with internet, RemoteError where it is not as it was asked."""
    if receipt.online:
        raise UsageError(
            f"notebook {receipt.notebook} version {receipt.version} ran with internet on, and a competition takes no "
            f"notebook that did; what it made is fetched with: kit output {receipt.name}"
        )
    if receipt.differing:
        differing = "; ".join(f"{one.what} is {one.found!r}, asked was {one.asked!r}" for one in receipt.differing)
        raise RemoteError(
            f"notebook {receipt.notebook} version {receipt.version} is not handed in, for Kaggle has it otherwise than "
            f"it was asked: {differing}. See {receipt.url}; kit push {receipt.name} looks again and says what helps"
        )


@dataclass(frozen=True)
class MadeModel:
    """A model folder that a run has made; `problem` where it is not what its manifest says. `size` in bytes."""

    name: str
    folder: Path
    files: int
    size: int
    problem: str | None


def made_models(fetched: Fetched) -> tuple[MadeModel, ...]:
    """The model folders of an output that is here whole, every file hashed and compared with its manifest."""
    paths = sorted(path for path in fetched.files if path.name == MANIFEST and _is_of_model(path))
    return tuple(_made(path) for path in paths)


def _is_of_model(path: Path) -> bool:
    """Whether a manifest.json is one of kit's for a model: others write files of this name too."""
    try:
        body = read_json(path)
    except OutsideError:
        return False
    return isinstance(body, dict) and body.get("kind") == "model"


def _made(path: Path) -> MadeModel:
    folder = path.parent
    try:
        manifest = read_manifest(path)
        verify_files(folder, manifest)
    except KitError as error:
        return MadeModel(folder.name, folder, 0, 0, str(error))
    size = sum(entry.size for entry in manifest.files)
    return MadeModel(manifest.name, folder, len(manifest.files), size, None)


def submit(
    client: Client,
    competition: str,
    receipt: Receipt,
    *,
    message: str | None,
    deadline: float | None,
    tell: Callable[[Receipt], None],
) -> Receipt:
    """Submit the submission.csv of the receipt's version, and with a `deadline` wait for its score.

    A version that was submitted with this message, or without a `message` with any, is not submitted again, unless
    Kaggle says ERROR of it. `tell` hears the receipt with each state of the submission, the first before any wait.
    Raises UsageError, before anything is asked, where its run had internet; RemoteError where it is not as it was
    asked, its run is not complete, its output holds no submission.csv, no submission is left today, or Kaggle says
    ERROR.
    """
    ref, version = receipt.notebook, receipt.version
    refuse_unfit(receipt)
    state = notebooks.status(client, ref, version)
    if not state.complete:
        raise RemoteError(
            f"notebook {ref} version {version} cannot be handed in: its run is {state.state}; see kit status"
        )
    if not outputs.settled(client, ref, version, _lists_submission):
        raise RemoteError(f"notebook {ref} version {version} left no {SUBMISSION}; see its log with kit logs")
    made = _submitted(client, competition, receipt, message)
    receipt = _with_submission(receipt, competition, made)
    tell(receipt)
    if deadline is None:
        return receipt
    scored = competitions.wait_scored(
        client, made.ref, deadline=deadline, tell=lambda now: tell(_with_submission(receipt, competition, now))
    )
    return _with_submission(receipt, competition, scored)


def _lists_submission(client: Client, ref: str, version: int) -> bool:
    return any(file.name == SUBMISSION for file in outputs.list_output(client, ref, version))


def _submitted(client: Client, competition: str, receipt: Receipt, message: str | None) -> competitions.Submission:
    """The version's submission: the one that the receipt or Kaggle knows, unless it failed, or a new one."""
    ref, version = receipt.notebook, receipt.version
    kept = receipt.submission if receipt.submission.get("competition") == competition else {}
    known, number = str(kept.get("description") or ""), kept.get("ref")
    same = not message or competitions.describe(message, kernel=ref, version=version) == known
    if same and isinstance(number, int):
        # Asked for by its number: the list may not show it yet.
        there = competitions.submission(client, number)
        if there.state != competitions.ERROR:
            return there
    return competitions.submit_code(
        client,
        competition,
        kernel=ref,
        version=version,
        file_name=SUBMISSION,
        message=message,
        otherwise=known or f"kit push {receipt.name}",
    )


def _with_submission(receipt: Receipt, competition: str, made: competitions.Submission) -> Receipt:
    """The receipt with what Kaggle says of a submission. One that it does not show yet has no description there."""
    description = made.description or receipt.submission.get("description", "")
    known = {name: getattr(made, name) for name in ("ref", "state", "public_score", "private_score", "error")}
    return replace(receipt, submission={"competition": competition, **known, "description": description})
