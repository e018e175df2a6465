"""PyTorch backend (see `backends.base`)."""
