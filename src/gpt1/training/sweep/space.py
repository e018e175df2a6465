"""Search space of a sweep: parsing `lr=1e-5..1e-3:log,epochs=2|3|4` into dimensions, settings of `gpt1 finetune`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

from gpt1.config import FinetuneConfig
from gpt1.config.overrides import setting_holders, value_of, with_overrides
from gpt1.config.recipes import recipe
from gpt1.errors import UserError

EXAMPLE = "--search lr=1e-5..1e-3:log,epochs=2|3|4"
GROUPS = {"dropout": ("embd_pdrop", "resid_pdrop", "attn_pdrop", "clf_pdrop")}
"""Name that exists only in `--search` -> the settings that share its value."""
SEARCHED_CONFIGS = ("optim", "dropout", "loss", "loop")
SEARCHED_SETTINGS = ("model", "segments", "head_bias", "max_length")
"""Settings outside these configurations that can be searched; settings that change the scored data cannot."""


class Suggester(Protocol):
    """Interface of `optuna.trial.Trial` that chooses values."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Choose one of `choices`."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Choose a number from `low` to `high`, uniformly or log-uniformly."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """Choose a whole number from `low` to `high`, both included."""


@dataclass(frozen=True)
class Dimension:
    """One searched setting: a choice of `values`, or a range from `values[0]` to `values[1]`."""

    name: str
    values: tuple[Any, ...]
    choices: bool
    log: bool = False

    def suggest(self, trial: Suggester) -> Any:
        """Return the value that the trial chooses."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.values)
        low, high = self.values
        if isinstance(low, int):
            return trial.suggest_int(self.name, low, high, log=self.log)
        return trial.suggest_float(self.name, low, high, log=self.log)


def parse(search: str, base: FinetuneConfig) -> tuple[Dimension, ...]:
    """Return the dimensions of the `--search` text, each value validated against `base`.

    Raises:
        UserError: a setting is unknown, repeated or has an invalid value, or there is nothing to search.
    """
    known = searchable(base)
    dimensions: dict[str, Dimension] = {}
    for part in filter(None, map(str.strip, search.split(","))):
        name, equals, text = (side.strip() for side in part.partition("="))
        name = name.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(f"--search {name}: unknown{meant}; there are {', '.join(known)}")
        if not equals or not text:
            raise UserError(f"--search {part}: no values; write {EXAMPLE}")
        if name in dimensions:
            raise UserError(f"--search {name}: named twice")
        dimensions[name] = _dimension(name, text, known[name])
        for value in dimensions[name].values:
            try:
                with_values(base, {name: value})
            except UserError as error:
                raise UserError(f"--search {part}: {error}") from None
    settings = [setting for name in dimensions for setting in GROUPS.get(name, (name,))]
    if repeated := sorted({setting for setting in settings if settings.count(setting) > 1}):
        raise UserError(f"--search {repeated[0]}: named twice, by itself and by dropout")
    if not any(len(set(dimension.values)) > 1 for dimension in dimensions.values()):
        raise UserError(f"--search {search!r}: nothing to search; write {EXAMPLE}")
    return tuple(dimensions.values())


def require_disjoint(base: FinetuneConfig, dimensions: Iterable[Dimension]) -> None:
    """Check that no searched setting is also set by a flag, which would be ignored.

    `seed` may be both: the flag seeds the splits and the sampler.

    Raises:
        UserError: a setting is both searched and set.
    """
    defaults = recipe(base.recipe) if base.recipe else FinetuneConfig()
    for name in (setting for each in dimensions for setting in GROUPS.get(each.name, (each.name,))):
        if name != "seed" and (value := value_of(base, name)) != value_of(defaults, name):
            raise UserError(
                f"--{name.replace('_', '-')} {value}: is also in --search, which sets it for each trial; "
                "remove one of the two"
            )


def searchable(base: FinetuneConfig) -> dict[str, Any]:
    """Return {setting: type} of all settings that can be searched."""
    holders = setting_holders(base)
    hints = {part: get_type_hints(type(getattr(base, part) if part else base)) for part in {*holders.values()}}
    names = [name for name, part in holders.items() if part in SEARCHED_CONFIGS or name in SEARCHED_SETTINGS]
    return dict.fromkeys(GROUPS, float) | {name: hints[holders[name]][name] for name in sorted(names)}


def with_values(base: FinetuneConfig, values: Mapping[str, Any]) -> FinetuneConfig:
    """Return `base` with the given {dimension name: value}."""
    return with_overrides(
        base, {setting: value for name, value in values.items() for setting in GROUPS.get(name, (name,))}
    )


def _dimension(name: str, text: str, hint: Any) -> Dimension:
    if ".." not in text:
        return Dimension(name, tuple(_value(name, choice.strip(), hint) for choice in text.split("|")), choices=True)
    span, _, scale = text.partition(":")
    low, high = (_value(name, end.strip(), hint) for end in span.split("..", 1))
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        raise UserError(f"--search {name}={text}: not a range of numbers; write {name}=A|B")
    if not low < high:
        raise UserError(f"--search {name}={text}: expected the lower bound first")
    if scale not in ("", "log"):
        raise UserError(f"--search {name}={text}: unknown scale {scale}; expected log, or nothing")
    if scale and low <= 0:
        raise UserError(f"--search {name}={text}: a log scale needs a lower bound above 0")
    return Dimension(name, (low, high), choices=False, log=bool(scale))


def _value(name: str, text: str, hint: Any) -> Any:
    """Parse a text as the first of the setting's types that accepts it."""
    for kind in (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,):
        if get_origin(kind) is Literal or kind is str:
            return text
        if kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind is type(None) and text.lower() == "none":
            return None
        if kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    raise UserError(
        f"--search {name}: {text!r} is not a valid value; see --{name.replace('_', '-')} in gpt1 sweep --help"
    )
