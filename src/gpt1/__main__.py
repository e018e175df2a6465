"""`python -m gpt1` is the command `gpt1`."""

import sys

from gpt1.cli import main

sys.exit(main())
