"""The one tree of errors a user may see: what happened, where, and what to do next."""


class KitError(Exception):
    """Any failure that kit foresees. Its text is the whole message that a user reads.

    `exit_code` is what the command line ends with: 1 where the work failed, 2 where kit was used wrongly.
    """

    exit_code = 1


class UsageError(KitError):
    """Kit was asked for something that cannot be: a wrong name, a wrong type, a missing file."""

    exit_code = 2


class OutsideError(KitError):
    """A file that someone else wrote is no regular file, too large, or not what its reader can use."""


class ProjectError(UsageError):
    """`kit.toml`, or a file that it names, is missing or wrong."""


class SourceError(UsageError):
    """A notebook source or its template is wrong."""


class DataError(UsageError):
    """The competition's files are missing, or do not have the columns and ids that they must have."""


class LabelError(UsageError):
    """A label is not one distinct token in the place where the model will say it."""


class AnswerPlaceError(LabelError):
    """The prompt ends where the model, by its own chat template, does not answer yet; `step`: what to do."""

    def __init__(self, what: str, step: str) -> None:
        """Its text is both."""
        super().__init__(f"{what}; {step}")
        self.what, self.step = what, step


class WheelhouseError(KitError):
    """A wheel or a lock is missing, corrupt, or cannot be had."""


class ModelError(KitError):
    """A model folder is missing, incomplete or corrupt."""


class SandboxError(KitError):
    """The sealed Kaggle could not be made on this machine."""


class SealError(SandboxError, UsageError):
    """No seal works on this machine, or not the one that was asked for, and none was given up by name."""


class RunError(KitError):
    """Something failed while a notebook or its worker ran."""


class RemoteError(KitError):
    """Kaggle refused, failed, or did something else than it was asked."""


class CredentialsError(RemoteError, UsageError):
    """There is no login for Kaggle, it is not complete, or Kaggle does not know it."""
