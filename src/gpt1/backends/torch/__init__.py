"""GPT-1 on PyTorch (see `backends.base`)."""
