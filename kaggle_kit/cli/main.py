"""`kit`: the command line. It parses, calls, prints, and turns errors into exit codes."""

from __future__ import annotations

import errno
import os
import sys

import click

from kaggle_kit import __version__
from kaggle_kit.cli.allow import allow
from kaggle_kit.cli.bench import bench
from kaggle_kit.cli.build import build
from kaggle_kit.cli.dryrun import dryrun
from kaggle_kit.cli.evaluation import calibrate, ensemble, evaluate
from kaggle_kit.cli.model import model
from kaggle_kit.cli.model_compare import compare as compare_models
from kaggle_kit.cli.model_quantize import quantize
from kaggle_kit.cli.pull import pull
from kaggle_kit.cli.rehearse import rehearse
from kaggle_kit.cli.release import plan, push, submit
from kaggle_kit.cli.report import compare, report
from kaggle_kit.cli.runs import history, logs, output, quota, status
from kaggle_kit.cli.scoring import score
from kaggle_kit.cli.targets import targets
from kaggle_kit.cli.terminal import guard, guarded, say, say_error
from kaggle_kit.cli.wheels import wheels
from kaggle_kit.errors import KitError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kit")
def kit() -> None:
    """Offline Kaggle notebooks that score a large language model: built, rehearsed, and pushed.

    \b
    Exit codes: 0 done, 1 the work failed, 2 wrong use, 130 interrupted.

    \b
    Examples:
      kit build                  render every notebook of the project
      kit wheels fetch --target local-cpu
      kit dryrun lmsys           run a notebook in a sealed Kaggle on this machine
      kit rehearse lmsys         the whole release against a Kaggle on this machine
      kit push lmsys --wait      push what changed, and wait for the run
    """


for command in (compare_models, quantize):
    model.add_command(command)
for command in (
    allow,
    bench,
    build,
    calibrate,
    compare,
    dryrun,
    ensemble,
    evaluate,
    history,
    logs,
    model,
    output,
    plan,
    pull,
    push,
    quota,
    rehearse,
    report,
    score,
    status,
    submit,
    targets,
    wheels,
):
    kit.add_command(command)


def main() -> None:
    """The entry point of the command `kit`."""
    _hold_streams()
    guard()
    sys.exit(run(sys.argv[1:]))


def _hold_streams() -> None:
    """Where a standard stream was closed, put nothing in its place: else the next file would get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. Every foreseen error is one message on standard error.

    Nothing that is written meanwhile, by whomever, commands the terminal.
    """
    with guarded():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        result = kit.main(args=arguments, prog_name="kit", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted; what was fetched or built before is kept")
        return INTERRUPTED
    except KitError as error:
        say_error(error)
        return error.exit_code
    except OSError as error:
        return _system_error(error)
    return result if isinstance(result, int) else 0


def _system_error(error: OSError) -> int:
    """Say what the system refused: a full disk and missing rights are the user's to mend, not a crash of kit."""
    if isinstance(error, BrokenPipeError):
        return 1
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.ENAMETOOLONG}
    wrong_place = isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError)
    if not (full or wrong_place or isinstance(error, PermissionError)):
        raise error
    from kaggle_kit.files import refusal

    say_error(refusal(error))
    return 1


if __name__ == "__main__":
    main()
