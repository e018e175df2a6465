"""Tasks: the paper's tasks, and tasks that other packages register.

A package registers a task by an entry point with the name of the task:

    [project.entry-points."gpt1.tasks"]
    headline = "my_package:Headline"     # a subclass of `Task`: name, input_kind, sequences

Its `input_kind` is `SINGLE`, `PAIR` or an `InputKind` of the package. It uses the head of `classification`, with one
sequence per example. The sequence must contain each text of the example unchanged, and may contain other texts.
CONTRIBUTING.md has an example of ten lines.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gpt1.config import Head, TaskName
from gpt1.data.example import Example
from gpt1.data.in_memory import examples_of
from gpt1.data.input_kinds import InputKind, TextField
from gpt1.data.paper_kinds import CHOICES, INPUT_KINDS, PAIR, SINGLE
from gpt1.errors import UserError
from gpt1.tasks.base import Part, Task
from gpt1.tasks.classification import Classification
from gpt1.tasks.encoding import encode, limit
from gpt1.tasks.entailment import Entailment
from gpt1.tasks.labels import Labels
from gpt1.tasks.multiple_choice import MultipleChoice
from gpt1.tasks.problem_types import REGRESSION, SINGLE_LABEL, ProblemType
from gpt1.tasks.similarity import Similarity

TASKS: dict[TaskName, Task] = {
    task.name: task for task in (Classification(), Entailment(), Similarity(), MultipleChoice())
}
"""The paper's tasks by name."""
GROUP = "gpt1.tasks"
"""Entry-point group of tasks of other packages."""

__all__ = [
    "CHOICES",
    "PAIR",
    "REGRESSION",
    "SINGLE",
    "SINGLE_LABEL",
    "TASKS",
    "Example",
    "InputKind",
    "Labels",
    "Part",
    "ProblemType",
    "Task",
    "TextField",
    "default_task",
    "encode",
    "find_task",
    "input_kinds",
    "limit",
    "metrics_of",
    "task_of_values",
]


def default_task(kind: InputKind, problem_type: ProblemType) -> Task | None:
    """Return the default task for data of this input kind and problem type, or None."""
    suited = (task for task in TASKS.values() if task.input_kind == kind and problem_type in task.default_for)
    return next(suited, None)


def task_of_values(
    X: Any,  # noqa: N803
    problem_type: ProblemType,
    name: TaskName | None,
    taker: str,
) -> tuple[Task, list[Example]]:
    """Return the task called `name`, or inferred from the Python values `X`, and the examples of `X`.

    Raises:
        UserError: `X` is empty or not valid for the task, or the task does not support `problem_type`; the message
            names `taker`, the caller.
    """
    named = find_task(name, "task") if name else None
    kind, examples = examples_of(X, "X", [*([named.input_kind] if named else []), *INPUT_KINDS])
    task = named or default_task(kind, problem_type)
    if task is None or task.input_kind != kind or problem_type not in task.problem_types:
        known = task.name if task else None
        raise UserError(f"X contains {kind.plural}; {taker} with task={known!r} does not accept them")
    return task, examples


def input_kinds(name: TaskName | None) -> list[InputKind]:
    """Return the input kinds that Python values can have: first that of the task called `name`, then the built-in ones.

    Raises:
        UserError: the name is unknown.
    """
    own = [] if name in (None, REGRESSION.name) else [find_task(name).input_kind]
    return [*own, *INPUT_KINDS]


def metrics_of(head: Head) -> tuple[str, ...]:
    """Return the metrics of the head's task; the first one selects the best model."""
    return find_task(head.task, "this model's task").metrics(head)


def find_task(name: TaskName, asked_by: str = "--task") -> Task:
    """Return the task called `name`, one of the paper's or of an installed package.

    Raises:
        UserError: the name is unknown, several packages register it, or the registered object is not a valid task; the
            message begins with `asked_by`.
    """
    if name in TASKS:
        return TASKS[name]
    match list(entry_points(group=GROUP, name=name)):
        case []:
            added = sorted({point.name for point in entry_points(group=GROUP)} - TASKS.keys())
            known = [*TASKS, *([REGRESSION.name] if asked_by == "--task" else []), *added]
            raise UserError(
                f"{asked_by} {name}: unknown task; expected one of {', '.join(known)}, or install a package "
                f"that registers it as an entry point of the group {GROUP}"
            )
        case [point]:
            return _load(point, asked_by)
        case several:
            raise UserError(
                f"{asked_by} {name}: registered by both {' and '.join(map(_package, several))}; uninstall one of them"
            )


def _load(point: EntryPoint, asked_by: str) -> Task:
    """Load a task of another package; errors name the package."""
    where = f"{asked_by} {point.name}: {point.value} of {_package(point)}"
    try:
        return _checked(point.load(), point.name)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # importing another package's module may raise anything
        raise UserError(f"{where} cannot be loaded ({type(error).__name__}: {error})") from error


@cache  # models of one task share the object
def _checked(made: Any, name: str) -> Task:
    task = made() if isinstance(made, type) else made
    if not isinstance(task, Task):
        raise TypeError(f"found {task!r}, expected a subclass of gpt1.tasks.Task")
    if (own := getattr(task, "name", None)) != name:
        raise TypeError(f"its name is {own!r}, expected {name!r} as in the entry point")
    if not isinstance(kind := getattr(task, "input_kind", None), InputKind):
        raise TypeError(f"its input_kind is {kind!r}, expected SINGLE, PAIR or an InputKind")
    sample = kind.sample()
    if sample.choices:  # several sequences per example require another head
        raise TypeError(f"its input_kind {kind.name} has choices, which the classification head does not support")
    match task.sequences(sample):
        case [parts] if len(parts) <= len(sample.parts) and {*sample.parts} <= {
            text for part in parts for text in part
        }:
            return task
        case other:
            raise TypeError(
                f"sequences(example) returned {other!r} for the texts {', '.join(sample.parts)}; expected one sequence "
                f"of at most {len(sample.parts)} parts that contain each text unchanged"
            )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "a package"
