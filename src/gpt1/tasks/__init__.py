"""The paper's kinds of tasks by name, and those that other packages add.

A package adds one without a change here, by an entry point whose name is the task's:

    [project.entry-points."gpt1.tasks"]
    headline = "my_package:Headline"     # a class like those of this folder: name, kind, sequences

Its head is that of `classification`: one sequence an example. The sequence holds each text of the example as it is,
and may hold texts of the task's own beside them. CONTRIBUTING.md has one in ten lines.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gpt1.config import TaskName
from gpt1.data.dataset import Example
from gpt1.errors import UserError
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
"""The paper's."""
GROUP = "gpt1.tasks"
"""Group of the entry points that name others."""

__all__ = ["TASKS", "Labels", "Task", "encode", "find_task", "limit"]


def find_task(name: TaskName, asked_by: str = "--task") -> Task:
    """Return the task of this name: the paper's, or the one that an installed package adds.

    Raises:
        UserError: there is none, two packages add one of this name, or what a package adds cannot be used; the line
            begins with `asked_by`.
    """
    if name in TASKS:
        return TASKS[name]
    match list(entry_points(group=GROUP, name=name)):
        case []:
            added = sorted({point.name for point in entry_points(group=GROUP)} - TASKS.keys())
            raise UserError(
                f"{asked_by} {name}: no such task; there are {', '.join([*TASKS, *added])}; others come with packages "
                f"that have an entry point of the group {GROUP}"
            )
        case [point]:
            return _load(point, asked_by)
        case several:
            raise UserError(
                f"{asked_by} {name}: {' and '.join(map(_package, several))} both add a task of this name; uninstall one"
            )


def _load(point: EntryPoint, asked_by: str) -> Task:
    """Return the task of another package; what is wrong with it is said in its package's name."""
    where = f"{asked_by} {point.name}: {point.value} of {_package(point)}"
    try:
        return _checked(point.load(), point.name)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # whatever the import of somebody's module raises
        raise UserError(f"{where} cannot be loaded ({type(error).__name__}: {error})") from error


@cache  # so that two models of one task have the same
def _checked(made: Any, name: str) -> Task:
    task: Task = made() if isinstance(made, type) else made
    if (found := getattr(task, "name", None)) != name:
        raise TypeError(f"its name is {found!r}, {name!r} expected as in the entry point")
    kind = getattr(task, "kind", None)
    if kind not in ("single", "pair"):  # several sequences an example need a head of their own
        raise TypeError(f"its kind is {kind!r}, 'single' or 'pair' expected")
    texts = ("text",) if kind == "single" else ("text_a", "text_b")
    match task.sequences(Example(texts)):
        case [parts] if len(parts) <= len(texts) and {*texts} <= {text for part in parts for text in part}:
            return task
        case other:
            raise TypeError(
                f"sequences(example) gave {other!r} for the texts {', '.join(texts)}; one sequence expected, of parts "
                f"({len(texts)} at most) that hold each text as it is"
            )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "a package"
