"""Text to token ids and back: pre-tokenizers, BPE, vocabulary files, training, streaming decoder; stands on config."""
