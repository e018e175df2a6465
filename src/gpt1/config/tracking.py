"""Where else the figures of a run are shown."""

from __future__ import annotations

from dataclasses import dataclass

from gpt1.config.checks import require

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass(frozen=True)
class TrackConfig:
    """Trackers that follow the run's log; none by default."""

    track: str = ""
    """Also send the log's figures to a tracker, or to several: `tensorboard,wandb`.
    `tensorboard` (files in OUT/trackers/tensorboard), `wandb` (Weights & Biases), `mlflow`, `trackio`.
    A tracker that fails never stops a run."""
    track_project: str = "gpt1"
    """Project (MLflow: experiment) under which these trackers show the run."""

    def __post_init__(self) -> None:
        for name in self.names:
            require(name in TRACKERS, "track", name, f"one of {', '.join(TRACKERS)}, or several: tensorboard,wandb")
        require(bool(self.track_project.strip()), "track_project", repr(self.track_project), "a name")

    @property
    def names(self) -> tuple[str, ...]:
        """The trackers, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.track.split(",") if name.strip()))
