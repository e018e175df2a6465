"""Layouts and dtypes of stored weights."""

from __future__ import annotations

from typing import Literal

Layout = Literal["gpt1", "mindspore", "huggingface", "openai", "onnx"]


Stored = Literal["float32", "bfloat16", "float16"]
