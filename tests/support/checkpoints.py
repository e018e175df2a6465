"""The newest checkpoint of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpt1.backends.parameters import Params
from gpt1.checkpoint.train_state import Checkpoints, Progress


def newest(checkpoints: Checkpoints, say: Callable[[str], None] = pytest.fail) -> tuple[Params, Progress]:
    """Return the newest undamaged checkpoint; `say` receives the notices about damaged ones."""
    found = checkpoints.load_newest(say)
    assert found is not None
    return found
