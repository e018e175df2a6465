"""A loaded model at work: classify, score, generate, explain, predict files."""
