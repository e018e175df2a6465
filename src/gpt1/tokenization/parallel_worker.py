"""Worker process of `parallel`: encodes the texts that it reads from stdin."""

from __future__ import annotations

import json
import sys

import numpy as np
import tokenizers

from gpt1.tokenization.tokenizer import Tokenizer


def main() -> None:
    """Read a tokenizer and then lists of texts from stdin, each a line of JSON; write counts and ids to stdout."""
    requests = iter(sys.stdin.buffer)
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(next(requests).decode()), "openai")
    for request in requests:
        encoded = [np.array(tokenizer.encode(text), np.int32) for text in json.loads(request)]
        counts = np.array([len(encoded), *map(len, encoded)], np.int32)
        sys.stdout.buffer.write(b"".join([counts.tobytes(), *(ids.tobytes() for ids in encoded)]))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
