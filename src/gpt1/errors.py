"""The one exception that means: the user's input is at fault."""

from __future__ import annotations


class UserError(ValueError):
    """Something the person gave cannot be used as it is.

    The message is one line that names the flag, file and row, what was found, what was expected, and where possible a
    command that works. The command line prints it without a traceback and exits with code 2.
    """
