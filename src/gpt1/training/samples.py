"""What a language model says while it is trained: how a prompt goes on, and the likeliest next tokens after it."""

from __future__ import annotations

from dataclasses import dataclass

from gpt1 import console
from gpt1.checkpoint.event_log import RunLog
from gpt1.config import GenerateConfig
from gpt1.inference.generator import Writer
from gpt1.tokenization.tokenizer import token_name

TOP = 5
"""Next tokens that are shown."""


@dataclass(frozen=True)
class Sample:
    """Writes on from one prompt, with one seed, each time that it is asked to."""

    writer: Writer
    prompt: str
    n_tokens: int
    """Tokens of the text."""
    seed: int

    def show(self, step: int, log: RunLog) -> None:
        """Print what the model makes of the prompt now, and write it to the log as `sample`."""
        how = GenerateConfig(temperature=0.8, top_p=0.95, max_tokens=self.n_tokens, seed=self.seed)
        (found,) = self.writer.generate([self.prompt], how)
        following = self.writer.next(self.prompt, TOP)
        log.write("sample", {"step": step, "prompt": self.prompt, "text": found["text"], "next": following})
        console.say(f"  {self.prompt} | {' '.join(found['text'].split())}")
        console.say(
            "  next: " + "   ".join(f"{token_name(row['token'])} {row['probability']:.1%}" for row in following)
        )
