"""Storage of models and runs: model and run directories, event logs, the Hugging Face hub, other file layouts."""
