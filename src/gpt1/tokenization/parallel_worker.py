"""The process that `parallel` starts: it encodes the texts that come through stdin."""

from __future__ import annotations

import json
import sys

import numpy as np
import tokenizers

from gpt1.tokenization.tokenizer import Tokenizer


def main() -> None:
    """Encode what comes through stdin: a tokenizer, then lists of texts, each a line of JSON."""
    requests = iter(sys.stdin.buffer)
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(next(requests).decode()), "openai")
    for request in requests:
        encoded = [np.array(tokenizer.encode(text), np.int32) for text in json.loads(request)]
        counts = np.array([len(encoded), *map(len, encoded)], np.int32)
        sys.stdout.buffer.write(b"".join([counts.tobytes(), *(ids.tobytes() for ids in encoded)]))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
