"""GPT-1 on MindSpore (see `backends.base`)."""

import os

os.environ.setdefault("GLOG_v", "3")  # errors alone: MindSpore warns of its own parts that are not installed
