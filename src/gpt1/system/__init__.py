"""Files, JSON, tensors on disk and child processes."""
