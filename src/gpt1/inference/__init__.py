"""Inference with a loaded model: classify, score, generate, explain, predict files."""
