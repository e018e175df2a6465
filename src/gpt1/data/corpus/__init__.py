"""Unlabelled text for pretraining: documents, shards of token ids, prepared corpora, windows."""
