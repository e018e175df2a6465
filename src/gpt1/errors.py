"""Exceptions that are not bugs in gpt1: invalid input, an interrupted run, a lost process."""

from __future__ import annotations


class _OneLine(Exception):
    """Exception that a notebook shows in one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython prints in place of the traceback."""
        return [f"{type(self).__name__}: {self}" if str(self) else f"{type(self).__name__}"]


class UserError(_OneLine, ValueError):
    """Invalid user input.

    The message is one line, except for a list of bad rows (`data.bad_rows`). It names the flag, file and row, what was
    found, what was expected and, if possible, a command that works. The command line and notebooks print it without a
    traceback; a command exits with code 2.
    """


class Interrupted(_OneLine):
    """Training was stopped by a signal after saving a checkpoint; the same command resumes it."""


class PeerLost(Exception):
    """Another process of a distributed run has ended, so training cannot continue; its checkpoints are kept."""
