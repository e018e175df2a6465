"""The paper's tasks by name, and those that other packages add.

A package adds one without a change here, by an entry point whose name is the task's:

    [project.entry-points."gpt1.tasks"]
    headline = "my_package:Headline"     # a subclass of `Task`: name, input_kind, sequences

Its `input_kind` is `SINGLE`, `PAIR` or an `InputKind` of its own. Its head is that of `classification`: one sequence an
example. The sequence holds each text of the example as it is, and may hold texts of the task's own beside them.
CONTRIBUTING.md has one in ten lines.
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
"""The paper's."""
GROUP = "gpt1.tasks"
"""Group of the entry points that name others."""

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
    "limit",
    "metrics_of",
    "task_of_values",
]


def default_task(kind: InputKind, problem_type: ProblemType) -> Task | None:
    """Return the paper's task that data of this input kind and problem type pose where none is named."""
    suited = (task for task in TASKS.values() if task.input_kind == kind and problem_type in task.default_for)
    return next(suited, None)


def task_of_values(
    X: Any,  # noqa: N803
    problem_type: ProblemType,
    name: TaskName | None,
    taker: str,
) -> tuple[Task, list[Example]]:
    """Return the task called `name`, or the one that the Python values `X` pose, and their examples.

    Raises:
        UserError: X holds no examples, or those of a task that does not take them or has other answers; the line names
            `taker`.
    """
    named = find_task(name, "task") if name else None
    kind, examples = examples_of(X, "X", [*([named.input_kind] if named else []), *INPUT_KINDS])
    task = named or default_task(kind, problem_type)
    if task is None or task.input_kind != kind or problem_type not in task.problem_types:
        known = task.name if task else None
        raise UserError(f"X holds {kind.plural}; {taker} with task={known!r} does not take them")
    return task, examples


def metrics_of(head: Head) -> tuple[str, ...]:
    """Return the metrics that the task of a head reports; the first one selects the best model."""
    return find_task(head.task, "this model's task").metrics(head)


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
    task = made() if isinstance(made, type) else made
    if not isinstance(task, Task):
        raise TypeError(f"{task!r} found, a subclass of gpt1.tasks.Task expected")
    if (own := getattr(task, "name", None)) != name:
        raise TypeError(f"its name is {own!r}, {name!r} expected as in the entry point")
    if not isinstance(kind := getattr(task, "input_kind", None), InputKind):
        raise TypeError(f"its input_kind is {kind!r}, SINGLE, PAIR or an InputKind expected")
    sample = kind.sample()
    if sample.choices:  # several sequences an example need a head of their own
        raise TypeError(f"its input_kind {kind.name} has choices, which need a head of their own")
    match task.sequences(sample):
        case [parts] if len(parts) <= len(sample.parts) and {*sample.parts} <= {
            text for part in parts for text in part
        }:
            return task
        case other:
            raise TypeError(
                f"sequences(example) gave {other!r} for the texts {', '.join(sample.parts)}; one sequence expected, of "
                f"parts ({len(sample.parts)} at most) that hold each text as it is"
            )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "a package"
