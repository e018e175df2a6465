"""Samples during pretraining: a continuation of a prompt and the likeliest next tokens."""

from __future__ import annotations

from dataclasses import dataclass

from gpt1 import console
from gpt1.checkpoint.event_log import RunLog
from gpt1.config import GenerateConfig
from gpt1.inference.generator import TextGenerator
from gpt1.tokenization.tokenizer import token_name

TOP = 5
"""Number of next tokens shown."""


@dataclass(frozen=True)
class Sample:
    """Generates continuations of a fixed prompt with a fixed seed."""

    generator: TextGenerator
    prompt: str
    n_tokens: int
    """Number of tokens to generate."""
    seed: int

    def show(self, step: int, log: RunLog) -> None:
        """Print a continuation by the current model and log it as a `sample` event."""
        config = GenerateConfig(temperature=0.8, top_p=0.95, max_tokens=self.n_tokens, seed=self.seed)
        (sample,) = self.generator.generate([self.prompt], config)
        next_tokens = self.generator.next(self.prompt, TOP)
        log.write("sample", {"step": step, "prompt": self.prompt, "text": sample["text"], "next": next_tokens})
        console.say(f"  {self.prompt} | {' '.join(sample['text'].split())}")
        console.say(
            "  next: " + "   ".join(f"{token_name(row['token'])} {row['probability']:.1%}" for row in next_tokens)
        )
