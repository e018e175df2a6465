"""Scoring with confidence intervals, baselines, diagnostics, zero-shot classification, reports."""
