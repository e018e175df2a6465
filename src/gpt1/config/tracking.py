"""Settings of experiment trackers."""

from __future__ import annotations

from dataclasses import dataclass

from gpt1.config.checks import require

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass(frozen=True)
class TrackConfig:
    """Experiment trackers."""

    track: str = ""
    """Trackers that receive the metrics of the log, separated by commas: `tensorboard` (writes to
    OUT/trackers/tensorboard), `wandb` (Weights & Biases), `mlflow`, `trackio`. A failing tracker does not stop the
    run."""
    track_project: str = "gpt1"
    """Project of the run in the trackers (MLflow: experiment)."""

    def __post_init__(self) -> None:
        for name in self.names:
            require(name in TRACKERS, "track", name, f"one of {', '.join(TRACKERS)}, or several: tensorboard,wandb")
        require(bool(self.track_project.strip()), "track_project", repr(self.track_project), "a name")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the trackers without duplicates."""
        return tuple(dict.fromkeys(name.strip() for name in self.track.split(",") if name.strip()))
