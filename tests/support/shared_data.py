"""The folder of real data beside the checkout, which tests may read and need not have."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared"
SHARED_DATA = SHARED / "data"
