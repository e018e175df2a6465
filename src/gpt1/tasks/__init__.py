"""The paper's kinds of tasks, by name."""

from __future__ import annotations

from gpt1.config import TaskName
from gpt1.tasks.base import Labels, Task, encode, limit
from gpt1.tasks.classification import Classification
from gpt1.tasks.entailment import Entailment
from gpt1.tasks.multiple_choice import MultipleChoice
from gpt1.tasks.similarity import Similarity

TASKS: dict[TaskName, Task] = {
    "classification": Classification(),
    "entailment": Entailment(),
    "similarity": Similarity(),
    "multiple-choice": MultipleChoice(),
}

__all__ = ["TASKS", "Labels", "Task", "encode", "limit"]
