"""Training: the loop, fine-tuning, pretraining, runs over several seeds, sweeps, reproduction of the paper."""
