"""Errors that a user sees as one sentence, and the exit status of a run that can be continued."""

from __future__ import annotations

import os


class UserError(Exception):
    """Something that the user can put right; shown without a traceback."""


class Interrupted(Exception):  # noqa: N818
    """The run was asked to stop and has saved its state; the process ends with status `TRY_AGAIN`."""


class WorkerDone(Exception):  # noqa: N818
    """Raised in every process but rank 0 when training is over; `main` then exits with status 0."""


TRY_AGAIN = os.EX_TEMPFAIL
"""Exit status 75: the run was stopped and has saved its state; the same command continues it."""
