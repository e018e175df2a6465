"""Exceptions that are not bugs in gpt1: invalid input, an interrupted run, a lost process."""

from __future__ import annotations


class UserError(ValueError):
    """Invalid user input.

    The message is one line. It names the flag, file and row, what was found, what was expected and, if possible, a
    command that works. The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):
    """Training was stopped by a signal after saving a checkpoint; the same command resumes it."""


class PeerLost(Exception):
    """Another process of a distributed run has ended, so training cannot continue; its checkpoints are kept."""
