"""Entry point of `python -m gpt1`, the same as the command `gpt1`."""

import sys

from gpt1.cli import main

sys.exit(main())
