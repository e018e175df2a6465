"""The exceptions that are no faults of gpt1: the user's input, their wish to stop, a process that ended."""

from __future__ import annotations


class UserError(ValueError):
    """Something the person gave cannot be used as it is.

    The message is one line that names the flag, file and row, what was found, what was expected, and where possible a
    command that works. The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):
    """The person stopped the run; its state has been saved, and the same command goes on from there."""


class PeerLost(Exception):
    """Another process of the run has ended, so this one cannot go on; the last checkpoint stays."""
