"""Labelled data: files to rows, columns, examples, splits and batches; stands on the batch of `backends.base`."""
