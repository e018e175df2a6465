"""Base class of the estimators: settings, training, saving, loading and pickling."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from gpt1 import console
from gpt1.checkpoint.loading import open_model, resolve_model
from gpt1.checkpoint.model_dir import DETAILS, Model, load_model, save_model
from gpt1.checkpoint.run_dir import ADAPTED, RunDirectory
from gpt1.checkpoint.run_formats import upgrade_settings
from gpt1.checkpoint.train_state import Progress
from gpt1.config import DeviceConfig, FinetuneConfig
from gpt1.config.overrides import with_overrides
from gpt1.data.duplicates import find_duplicates
from gpt1.data.example import Example
from gpt1.errors import Interrupted, UserError
from gpt1.estimator.validation import drawn, require_use, unlabelled_examples
from gpt1.inference.loaded_model import LoadedModel
from gpt1.system.files import read_json, replace_directory, sha256, write_json
from gpt1.tasks import Labels, ProblemType, Task
from gpt1.tasks.dataset import TaskData
from gpt1.tasks.metrics import own_metric
from gpt1.tasks.unknown_text import check_training_texts
from gpt1.training.adaptation import Adaptation
from gpt1.training.defaults import recipe_or_default, with_split_version
from gpt1.training.setup import FinetuneSetup, encode_splits, starting_model

ESTIMATOR = "estimator.json"
"""File in the model directory of a saved estimator that stores its parameters and classes."""

UNUSED = ("out", "tracking")
"""Settings that `fit` refuses (`validation.require_use`) and that are therefore not stored."""


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Base class of classifier and regressor: settings, training, `save` and `load`."""

    problem_type: ClassVar[ProblemType]
    other_model: ClassVar[str]
    """Error message for a model of another problem type."""
    model_: LoadedModel
    n_truncated_: int
    _directory: str | None
    _digest: str | None

    def __init__(
        self, model: str | Path | None = None, *, recipe: str | FinetuneConfig | None = None, task: str | None = None,
        epochs: float | None = None, lr: float | None = None, batch_size: int | None = None,
        max_length: int | None = None, lm_coef: float | None = None, adapt: float | None = None,
        unlabelled: str | Path | Sequence[str] | None = None, validation_fraction: float | None = None,
        random_state: Any = None, backend: str | None = None, device: str | None = None, dtype: str | None = None,
        allow_unknown: bool | None = None, out: str | Path | None = None, verbose: int = 0,
    ):  # fmt: skip
        self.model = model
        self.recipe = recipe
        self.task = task
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.max_length = max_length
        self.lm_coef = lm_coef
        self.adapt = adapt
        self.unlabelled = unlabelled
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.backend = backend
        self.device = device
        self.dtype = dtype
        self.allow_unknown = allow_unknown
        self.out = out
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    # ---- settings

    def _config(self) -> FinetuneConfig:
        """Return the recipe's settings, replaced by the parameters that are not None."""
        base = self.recipe
        if not isinstance(base, FinetuneConfig):
            base = recipe_or_default(base, self.model, self.out)
        named = (
            "model", "task", "epochs", "lr", "batch_size", "max_length", "lm_coef", "adapt",
            "backend", "device", "dtype", "allow_unknown",
        )  # fmt: skip
        overrides = {name: value for name in named if (value := getattr(self, name)) is not None}
        if isinstance(self.unlabelled, str | Path):
            overrides["unlabelled"] = Path(self.unlabelled)
        if self.validation_fraction is not None:
            overrides["valid_fraction"] = float(self.validation_fraction)
        if self.random_state is not None:
            seed = self.random_state
            whole = isinstance(seed, int | np.integer)
            overrides["seed"] = int(seed) if whole else int(check_random_state(seed).randint(2**31))
        config = with_overrides(base, overrides)
        if self.unlabelled is not None and config.adaptation.adapt is None:
            raise UserError("unlabelled: only used with adapt; pass adapt=1, or leave unlabelled out")
        require_use(config)
        return config

    # ---- fit

    def _train(self, examples: list[Example], task: Task, labels: Labels, config: FinetuneConfig) -> None:
        """Fine-tune on labelled, weighted examples and set the attributes of a fitted estimator."""
        with ExitStack() as during:
            during.enter_context(console.muted(not self.verbose))
            if self.out is None:  # read_only: nothing is written
                run = RunDirectory(Path(during.enter_context(TemporaryDirectory())), read_only=True)
            else:
                run = RunDirectory(Path(self.out))
            config = with_split_version(config, run.path)
            splits = drawn(examples, config)
            unlabelled = unlabelled_examples(self.unlabelled)
            data = TaskData(splits, task, labels, (), find_duplicates(splits), unlabelled)
            start = starting_model(config, data, run)
            encoded = encode_splits(config, data, start)
            if note := check_training_texts(config, data.splits["train"], encoded["train"]):
                warnings.warn(note, stacklevel=3)
            training = FinetuneSetup(config, start, encoded, own_metric(config.metric))
            root = Path(self.out) / ADAPTED if self.out else Path(_temporary_directory().name)
            adaptation = Adaptation(config, data, start, root) if config.adaptation.adapt else None
            if not run.read_only:
                digests = {split: part.sha256() for split, part in encoded.items()}
                if adaptation:
                    digests["--adapt"] = adaptation.texts.sha256
                run.open("fit", config, {"data_sha256": digests, "labels": list(labels.names)})
                run.hold()
                run.save_rows(data.duplicates.keys)
                during.callback(run.close)
                if not run.tokenizer.exists():
                    replace_directory(run.tokenizer, start.tokenizer.save)
            best: list[Model] = []

            def keep(progress: Progress) -> None:
                origin = {
                    "fine-tuned from": config.model, "data": f"{len(examples):,} examples in memory",
                    "recipe": config.recipe, "seed": config.loop.seed, "step": progress.best_step or progress.step,
                }  # fmt: skip
                best[:] = [replace(start, params=training.engine.parameters(), provenance=origin)]
                if not run.read_only:
                    save_model(run.model, best[0], config.dropout)

            try:
                if adaptation:
                    start, _ = adaptation.run()
                    training.engine.load_parameters(start.params)
                progress = training.run(keep, run.checkpoints, run.log)
            except Interrupted:  # an Exception, which cross-validation would treat as a failed fit
                raise KeyboardInterrupt from None
            if training.valid is None:
                keep(progress)
            model = best[0] if run.read_only else run.load_model()
            self.model_ = LoadedModel.of(model, config.hardware)
        self.n_truncated_ = encoded["train"].truncated
        self._directory = self._digest = None
        if not run.read_only:
            self._note(run.model)

    def _logits(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return the (n, C) scores of the examples."""
        check_is_fitted(self, "model_")
        classifier = self.model_.require_classifier()
        examples = self.model_.examples(X, "X")
        with console.muted(not self.verbose):
            return classifier.logits(classifier.encode(examples), label="predicting")

    # ---- save, load, pickle

    def save(self, directory: Path | str) -> None:
        """Write the fitted model to a model directory (safetensors and JSON), replacing an existing one.

        `load` restores the estimator; `gpt1.load`, the commands and `transformers` can read the directory too.
        """
        check_is_fitted(self, "model_")
        self.model_.save(directory)
        self._note(Path(directory))

    def _note(self, directory: Path) -> None:
        """Write `ESTIMATOR` to the model directory and record the directory for pickling."""
        write_json(directory / ESTIMATOR, self._described())
        self._directory = str(directory.absolute())
        self._digest = sha256(directory / DETAILS)

    def _described(self) -> dict[str, Any]:
        params = self.get_params()
        if isinstance(self.recipe, FinetuneConfig):
            params["recipe"] = {key: value for key, value in asdict(self.recipe).items() if key not in UNUSED}
        if self.random_state is not None and not isinstance(self.random_state, int | np.integer):
            params["random_state"] = None  # JSON cannot store a generator, and the seed has been drawn
        if not isinstance(self.unlabelled, str | Path):
            params["unlabelled"] = None  # texts in memory
        params = {
            name: str(value) if isinstance(value, Path) else value.item() if isinstance(value, np.generic) else value
            for name, value in params.items()
        }
        return {"class": type(self).__name__, "params": params, "n_truncated": self.n_truncated_}

    @classmethod
    def load(cls, name: Path | str, **params: Any) -> Self:
        """Return the fitted estimator that `save` (or `fit` with `out`) wrote, with `params` replacing its parameters.

        `name` may also be any other fine-tuned model, as for `gpt1.load`; its classes are then the names of its labels.

        Raises:
            UserError: the model does not exist or has no head, or it belongs to another class of estimator.
        """
        directory = resolve_model(name)
        model = open_model(directory)
        home = directory / "model" if (directory / "model").is_dir() else directory
        described = read_json(home / ESTIMATOR) if (home / ESTIMATOR).exists() else {}
        if described.get("class", cls.__name__) != cls.__name__:
            raise UserError(f"{name}: a {described['class']}; load it with gpt1.{described['class']}.load")
        settings = _params_of(described) if described else {"model": str(name)}
        estimator = cls(**(settings | params))
        estimator._restore(model, described)
        estimator.n_truncated_ = described.get("n_truncated", 0)
        estimator._directory, estimator._digest = str(home.absolute()), sha256(home / DETAILS)
        return estimator

    def _restore(self, model: Model, described: dict[str, Any]) -> None:
        self.model_ = LoadedModel.of(model, self._hardware())
        if self.model_.require_classifier().problem_type is not self.problem_type:
            raise UserError(self.other_model)

    def _hardware(self) -> DeviceConfig:
        overrides = {
            name: value for name in ("backend", "device", "dtype") if (value := getattr(self, name)) is not None
        }
        base = self.recipe.hardware if isinstance(self.recipe, FinetuneConfig) else DeviceConfig()
        return with_overrides(base, overrides)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares the model, which is immutable: `fit` creates a new one."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        kept = {"model_": self.__dict__["model_"]} if "model_" in self.__dict__ else {}
        copied.__dict__ |= deepcopy({name: value for name, value in self.__dict__.items() if name not in kept}, memo)
        copied.__dict__ |= kept
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that pickle (joblib) stores: for a fitted model its directory, never the weights."""
        state: dict[str, Any] = dict(super().__getstate__())
        if state.pop("model_", None) is None:
            return state
        if self._directory is None:
            raise UserError(
                f"a fitted {type(self).__name__} is not pickled with its weights: save it first, model.save(DIR), or "
                f"fit it with out=DIR; the pickle then refers to DIR. {type(self).__name__}.load(DIR) needs no pickle. "
                "For n_jobs with fitted estimators: n_jobs=1, or joblib.parallel_config('threading')"
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and load the model from its directory; raises UserError if that model is gone."""
        super().__setstate__(state)
        if state.get("_directory") is None:
            return
        directory = Path(state["_directory"])
        if not (directory / DETAILS).exists() or sha256(directory / DETAILS) != state["_digest"]:
            raise UserError(f"{directory}: the model that this pickle refers to was deleted or replaced")
        self.model_ = LoadedModel.of(load_model(directory), self._hardware())


@cache
def _temporary_directory() -> TemporaryDirectory[str]:
    """Return the folder of the models that this process adapts without `out`: repeated fits share them."""
    return TemporaryDirectory(prefix="gpt1-")


def _params_of(described: dict[str, Any]) -> dict[str, Any]:
    params = dict(described["params"])
    if isinstance(params.get("recipe"), dict):
        hardware = DeviceConfig(**params["recipe"].pop("hardware"))
        params["recipe"] = replace(FinetuneConfig.from_dict(upgrade_settings(params["recipe"])), hardware=hardware)
    if isinstance(params.get("class_weight"), list):
        params["class_weight"] = dict(params["class_weight"])
    return params
