"""Text to token ids and back: pre-tokenizers, BPE, vocabulary files, training, incremental decoding."""
