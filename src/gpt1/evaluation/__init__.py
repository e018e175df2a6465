"""Scores with intervals, baselines, diagnostics, zero-shot labels, reports."""
