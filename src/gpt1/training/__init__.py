"""The training loop and what runs in it: fine-tuning, pretraining, seeds, sweeps, reproduction."""
