"""Original tokenization: the same ids as OpenAI's code for every text. Run: pytest tests/test_openai_pretokenizer.py"""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import ftfy
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gpt1
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import SIZES
from gpt1.errors import UserError
from gpt1.tokenization import ftfy_fast_path, openai_pretokenizer, parallel
from gpt1.tokenization.pretokenizers import OPENAI_AGREEMENT, split
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train
from support.openai_text import OpenAITokenizer, standardise
from support.shared_data import SHARED

ORIGINAL = SHARED / "data" / "gpt1-bpe"
GOLDEN = SHARED / "golden" / "openai-tokens.jsonl.xz"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="OpenAI's token ids are not on this machine")

TEXTS = [
    "The lighthouse keeper's daughter wasn't afraid of the storm; the storm was afraid of her!!",
    "“Don’t go out,” said the keeper — but Dr. Smith (M.D.) had gone out at 5p.m. already…\n\n \nThe storm stopped.",
    "well-known/unknown, and/or 3.5km @home #1 $5.00 50% A&B U.S.A. i.e. e.g. I'm gonna can't cannot c'mon 'em o'clock",
    "<br /><br />Not bad.<br />It's OK :D :-) <3 o.O >.< ^_^ (*_*) lol:D \\o/ ¯\\(ツ)/¯",
    "http://www.example.com/a_b?c=d www.example.com x@example.com example.com. v1.0.2 10:30am",
]
NASTY = [
    "",
    " \n\t\r\n ",
    "\x00\x01 a\x00b \x1b[31mred\x1b[0m \x7f \x0b \x0c \x1c",
    "\ud800 \udc00 a\ud83d\ude00b",
    "Ã© â€™ Â  schÃ¶n \x85 \x96 \x92 caf\xc3\xa9",
    "&lt;b&gt; &amp; &AMP; &eacute; &#39; &nbsp; & co &amp",
    "&lt; then < html &lt;\n&lt; after",
    "a\rb\r\nc\u2028d\u2029e\x85f",
    "ﬁne ﬂow Ⅷ ½ ２０２６ Ａ　Ｂ \ufeff \xad \u200b \xa0",
    "nai\u0308ve İSTANBUL ΌΣΟΣ Straße ŉ Ǆ",
    "你好，世界。 한국어 ไทย हिन्दी 👩‍👩‍👧 ❤️",
    "''quoted'' 'twas dogs' ''The back'' `tick` ``x'' '''",
    "Dr.No Mr.Smith id. Whos. t.A.T.u....yes ...it's roles.It's",
    "doin' 'em goin' 's 'd d. o. :o o.O w/o o.O °c. c. >:o :3 <3 <.<",
    "!!!???...,,,;;; ---- ____ ~~ ** (( )) [[]] {{}} || // \\\\ ++",
]
SPECIAL = ["'s", "'d", "d.", "o.", "o.O", ":o", ":D", ":3", "<3", ">:o", "doin'", "'em", "w/o", "Dr.", "a.m.", "''"]


WHOLE = OpenAITokenizer()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXTS * 3, 600, "openai")


def words_of(encoder_text: str) -> list[str]:
    """Return the words as the encoder computes them: by chunk, from the cache, or from the whole line if necessary."""
    table: list[str] = []

    def bpe(words: Any) -> list[tuple[int, ...]]:
        table.extend(words)
        return [(len(table) - len(words) + place,) for place in range(len(words))]

    return [table[i] for i in openai_pretokenizer.Encoder(bpe).encode(encoder_text)]


# --- the ids of OpenAI's code ----------------------------------------------------------------------------------------


@needs_golden
def test_golden_texts_get_openai_ids() -> None:
    """2,420 reviews, news, stories, exam texts and difficult lines, with the ids of OpenAI's encoder."""
    tokenizer = Tokenizer.load(ORIGINAL)
    with lzma.open(GOLDEN, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert tokenizer.pretokenizer == "openai"
    assert len(rows) == 2_420
    for seen_before in (False, True):
        wrong = [row["text"] for row in rows if tokenizer.encode(row["text"]) != row["ids"]]
        assert not wrong, f"{len(wrong)} texts, the first: {wrong[0]!r} (seen before: {seen_before})"
    nearest = [tokenizer.backend.encode(row["text"], add_special_tokens=False).ids == row["ids"] for row in rows]
    assert round(sum(nearest) / len(rows), 2) == OPENAI_AGREEMENT, "what gpt1.json and the card say of tokenizer.json"


@pytest.mark.parametrize("text", TEXTS + NASTY)
def test_words_are_those_of_the_whole_text(text: str) -> None:
    expected = WHOLE.words(text)
    assert words_of(text) == expected
    assert split(text, "openai") == expected


@settings(deadline=None, max_examples=400)
@given(
    st.lists(
        st.sampled_from([*SPECIAL, "the", "lol", "I", "5", "km", "'", "’", ".", ":", ">", "é", "…", "&amp;", "(", "\n"])
        | st.characters(codec="utf-8"),
        max_size=12,
    ),
    st.lists(st.sampled_from(["", " "]), min_size=12, max_size=12),
)
def test_no_neighbour_changes_a_word(parts: list[str], blanks: list[str]) -> None:
    """spaCy's special cases span blanks; the words must equal those of the whole text."""
    text = "".join(part + blank for part, blank in zip(parts, blanks, strict=False))
    assert words_of(text) == WHOLE.words(text)


def test_typography_beside_ascii_is_never_taken_for_mojibake() -> None:
    """Such lines are not passed to ftfy; every combination of three must equal its result."""
    alphabet = [*ftfy_fast_path._TYPEWRITTEN, *"aZ9 .'\"-<?\t$"]
    for text in map("".join, product(alphabet, repeat=3)):
        assert standardise(ftfy.fix_text(text)) == standardise(ftfy_fast_path.typewritten(text)), repr(text)


@example("Ã©¿\nÃ©")  # the line break is part of the mojibake
@settings(deadline=None, max_examples=1000)
@given(
    st.lists(
        st.sampled_from(["Ã©", "Â ", "à ", "&eacute;", "<", "\n", "“", "…", "É”", "œ", " \x85 ", "it\x92s", "a\x96b"])
        | st.characters(max_codepoint=0xFF),
        max_size=25,
    ).map("".join)
)
def test_lines_are_those_that_ftfy_repairs(text: str) -> None:
    """Latin lines without mojibake are not passed to ftfy, and others one by one."""
    expected = [chunk for line in standardise(ftfy.fix_text(text)).split("\n") for chunk in line.split()]
    assert (
        standardise("\n".join(map(" ".join, openai_pretokenizer.lines_of(text)))).replace("\n", " ").split() == expected
    )


def test_letters_alone_are_one_word() -> None:
    """Such pieces are not passed to spaCy, unless it has a rule for them."""
    letters = openai_pretokenizer.spacy_tokenizer()
    for piece in ("the", "USA", "km", "cant", "gonna", "Im", "dont", "x" * 300):
        assert letters.of_pieces([piece])[piece] == WHOLE.words(piece)


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_run_without_white_space_is_cut_every_so_many_characters(tokenizer: Tokenizer) -> None:
    """spaCy's time is quadratic in the length of a run; a word of megabytes must be split in linear time."""
    longest = openai_pretokenizer.LONGEST_CHUNK
    for run in ("a" * longest, "#'" * (longest // 2), "a.B" * (longest // 3)):
        assert words_of(run) == WHOLE.words(run)
    assert tokenizer.encode("a" * (10 * longest + 3)) == tokenizer.encode(" ".join(["a" * longest] * 10 + ["aaa"]))


def test_a_line_of_many_chunks_is_read_in_parts(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_pretokenizer, "LONGEST_LINE", 3)
    assert tokenizer.encode("the storm lol:D was afraid") == tokenizer.encode("the storm lol:D\twas afraid")
    assert words_of("one two three four five lol:D x") == ["one", "two", "three", "four", "five", "lol", ":d", "x"]


def test_what_is_kept_is_bounded_and_long_runs_are_not(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_pretokenizer, "MOST_KEPT", 50)
    encoder = openai_pretokenizer.Encoder(tokenizer._ids_of_words)
    for start in range(0, 1000, 10):
        encoder.encode(" ".join(f"word{n}" for n in range(start, start + 10)) + " " + "x" * 100)
    assert len(encoder._kept) <= 50 + 10
    assert max(map(len, encoder._kept)) <= openai_pretokenizer.LONGEST_KEPT


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = (TEXTS + NASTY) * 4
    expected = [tokenizer.encode(text) for text in texts]
    fresh = Tokenizer(tokenizers.Tokenizer.from_str(tokenizer.backend.to_str()), "openai")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fresh.encode, texts)) == expected


PATIENCE_S = 60
"""Timeout in seconds for a worker, which has to load spaCy, to encode a portion."""


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "WORTH_A_PROCESS", 100)
    monkeypatch.setattr(parallel, "CHARACTERS_AT_ONCE", 200)
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)


@pytest.mark.usefixtures("two_processes")
def test_a_large_batch_is_encoded_by_several_processes(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = (TEXTS + NASTY) * 20
    expected = [tokenizer.encode(text) for text in texts]
    came: list[int] = []
    received = parallel._received
    monkeypatch.setattr(parallel, "_received", lambda worker: came.append(1) or received(worker))

    def encode_in_time(text: str) -> list[int]:
        end = time.monotonic() + PATIENCE_S
        while not came and time.monotonic() < end:
            time.sleep(0.01)
        return tokenizer.encode(text)

    assert parallel.encode_all(encode_in_time, texts, tokenizer.backend.to_str) == expected
    assert came, "the worker did a part of it"


@pytest.mark.usefixtures("two_processes")
def test_a_worker_that_dies_costs_nothing_but_time(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        parallel,
        "_started",
        lambda: subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.PIPE, stdout=subprocess.PIPE),
    )
    texts = TEXTS * 20
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_small_batches_and_a_wish_for_one_core_start_no_process(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_started", lambda: pytest.fail("a process was started"))
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    tokenizer.encode_batch(TEXTS)
    monkeypatch.setattr(parallel, "WORTH_A_PROCESS", 100)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    tokenizer.encode_batch(TEXTS)


# --- what is loaded when ---------------------------------------------------------------------------------------------


def test_spacy_is_loaded_when_the_splitter_is_used_and_not_before() -> None:
    program = """
import sys
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train
train(["the storm the storm"], 60).encode("the storm")
exact = Tokenizer.from_vocab({"<unk>": 0, "a</w>": 1}, [], "openai")
exact.decode([1])
assert not {"spacy", "ftfy"} & set(sys.modules)
assert exact.encode("a") == [1]
assert "spacy" in sys.modules and "ftfy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(("package", "text"), [("spaCy", "word"), ("ftfy", "caf\xe9")])
def test_a_missing_package_is_an_error_that_gives_the_command(
    package: str, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    openai_pretokenizer.spacy_tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, package.lower(), None)
    with pytest.raises(UserError, match=rf"{package} is not installed.*pip install .*{package.lower()}"):
        openai_pretokenizer.Encoder(tokenizer._ids_of_words).encode(text)


# --- the rest of the tokenizer ---------------------------------------------------------------------------------------


def test_decoded_text_is_readable() -> None:
    text = "The keeper's daughter wasn't afraid (of it), she said. Cannot? I'm out!\nDon't!"
    vocab = {"<unk>": 0} | {word + "</w>": i for i, word in enumerate(dict.fromkeys(split(text, "openai")), start=1)}
    exact = Tokenizer.from_vocab(vocab, [], "openai")
    ids = [vocab[word + "</w>"] for word in split(text, "openai")]
    assert exact.decode(ids) == text.lower()


def test_sizes_are_the_bytes_behind_each_id(tokenizer: Tokenizer) -> None:
    for text in TEXTS + NASTY:
        ids, sizes = tokenizer.encode_with_sizes(text)
        assert ids == tokenizer.encode(text)
        assert sum(sizes) == len("".join(WHOLE.words(text)).encode())


def test_a_directory_remembers_the_splitter(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.pretokenizer == "openai"
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert gpt1.tokenizer(str(tmp_path)).encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_a_model_directory_says_that_its_pipeline_is_not_the_splitter(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = replace(SIZES["tiny"], vocab_size=tokenizer.vocab_size)
    save_model(tmp_path / "model", Model(config, initialise(config, 0), tokenizer))
    details = json.loads((tmp_path / "model" / "gpt1.json").read_text())
    assert details["words"] == "openai"
    assert not details["huggingface_exact"]
    for said in (details["huggingface_differences"][0], (tmp_path / "model" / "README.md").read_text()):
        assert f"{OPENAI_AGREEMENT:.0%} of reference texts" in said
    assert load_model(tmp_path / "model").tokenizer.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
