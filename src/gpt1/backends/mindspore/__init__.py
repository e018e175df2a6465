"""MindSpore backend (see `backends.base`)."""

import os

os.environ.setdefault("GLOG_v", "3")  # errors only: MindSpore warns about missing optional parts of itself
