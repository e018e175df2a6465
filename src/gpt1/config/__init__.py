"""All settings with their defaults, in frozen dataclasses.

The docstring below a field is the help text of its flag. Defaults are defined here only.
"""

from __future__ import annotations

from gpt1.config.adaptation import AdaptConfig
from gpt1.config.commands import END_OF_DOCUMENT, FinetuneConfig, Init, PretrainConfig, ReproduceConfig
from gpt1.config.data import (
    DETECTED,
    SPLIT_VERSION,
    Columns,
    DataConfig,
    Quoting,
    SplitStrategy,
    TableFormat,
    TextColumns,
    Truncation,
)
from gpt1.config.device import Backend, DeviceConfig, DType
from gpt1.config.formats import Layout, Stored
from gpt1.config.generation import MOST_SAMPLES, GenerateConfig
from gpt1.config.model import (
    PAPER_TASKS,
    REGRESSION_PROBLEM,
    SINGLE_LABEL_PROBLEM,
    SIZES,
    Head,
    ModelConfig,
    Pooling,
    ProblemName,
    TaskName,
    pooling_of,
    problem_name,
)
from gpt1.config.serving import ServeConfig
from gpt1.config.sweeping import READY_SEARCH, SweepConfig
from gpt1.config.tracking import TRACKERS, TrackConfig
from gpt1.config.training import DropoutConfig, LmMean, LoopConfig, LossConfig, OptimConfig, Padding, Schedule
from gpt1.config.zero_shot import Heuristic, ZeroShotConfig

__all__ = [
    "DETECTED",
    "END_OF_DOCUMENT",
    "MOST_SAMPLES",
    "PAPER_TASKS",
    "READY_SEARCH",
    "REGRESSION_PROBLEM",
    "SINGLE_LABEL_PROBLEM",
    "SIZES",
    "SPLIT_VERSION",
    "TRACKERS",
    "AdaptConfig",
    "Backend",
    "Columns",
    "DType",
    "DataConfig",
    "DeviceConfig",
    "DropoutConfig",
    "FinetuneConfig",
    "GenerateConfig",
    "Head",
    "Heuristic",
    "Init",
    "Layout",
    "LmMean",
    "LoopConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "Padding",
    "Pooling",
    "PretrainConfig",
    "ProblemName",
    "Quoting",
    "ReproduceConfig",
    "Schedule",
    "ServeConfig",
    "SplitStrategy",
    "Stored",
    "SweepConfig",
    "TableFormat",
    "TaskName",
    "TextColumns",
    "TrackConfig",
    "Truncation",
    "ZeroShotConfig",
    "pooling_of",
    "problem_name",
]
