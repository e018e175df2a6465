"""Labelled data: reading files into rows, examples, splits and batches (`backends.base.Batch`)."""
