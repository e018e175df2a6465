"""Models and runs on disk and by name: model directory, run directory, event log, hub, foreign layouts."""
