"""Names and directories to models."""

from __future__ import annotations

from pathlib import Path

from gpt1 import console
from gpt1.checkpoint.catalog import BUNDLED_MODELS, bundled_model
from gpt1.checkpoint.model_dir import Model, load_model
from gpt1.checkpoint.run_dir import RunDirectory, require_single
from gpt1.errors import UserError


def open_model(path: Path) -> Model:
    """Return the best model of a run directory, the model of a model directory, or the bundled `mini`.

    Of a run that is not finished it is the best so far, and a line says so.

    Raises:
        UserError: neither is there, or the directory holds several runs.
    """
    path = bundled_model(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such directory; expected a run (--out of gpt1 finetune), a model directory, or "
            f"{', '.join(BUNDLED_MODELS)}"
        )
    if (path / "model").is_dir() or (path / "log.jsonl").exists():
        run = RunDirectory(path)
        if not run.model.exists():
            raise UserError(
                f"{path}: this run has no model yet; run the same gpt1 finetune command again to go on with it"
            )
        model = run.load_model()
        if not run.finished:
            step = model.provenance.get("step")
            console.say(f"{path} is not finished: its best model so far{f', of step {step:,}' if step else ''}.")
        return model
    require_single(path)
    return load_model(path)
