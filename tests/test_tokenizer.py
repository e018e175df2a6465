"""Tokenizer: BPE, special tokens, files, and the same ids from `transformers`.

Run: pytest tests/test_tokenizer.py
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.errors import UserError
from gpt1.tokenization.pretokenizers import split
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.trainer import NEWLINE, train
from gpt1.tokenization.vocab_files import Merges, Vocab
from support.shared_data import SHARED_DATA
from support.tokenizer_texts import NASTY, TEXTS, files_of

ORIGINAL = SHARED_DATA / "gpt1-bpe"
IMDB = SHARED_DATA / "imdb" / "test.jsonl.xz"
needs_original = pytest.mark.skipif(not ORIGINAL.exists(), reason="the original vocabulary is not on this machine")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXTS * 2, 400)


def toy_vocab() -> tuple[Vocab, Merges]:
    """`<unk> l o w e r l</w> o</w> w</w> e</w> r</w> lo low</w> er</w> \\n</w>`, ids 0 to 14."""
    merges = [("l", "o"), ("lo", "w</w>"), ("e", "r</w>")]
    tokens = ["<unk>", *"lower", *(c + "</w>" for c in "lower"), *("".join(pair) for pair in merges), NEWLINE]
    return {token: i for i, token in enumerate(tokens)}, merges


# ---- encoding and decoding


def reference_encode(text: str, vocab: Vocab, merges: Merges) -> list[int]:
    """Sennrich et al. 2016: merge the pair with the lowest rank everywhere in the word, until there is none."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids = []
    for word in split(text):
        parts = [*word[:-1], word[-1] + "</w>"]
        while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
            best, joined = min(pairs, key=ranks.__getitem__), []
            while parts:
                width = 2 if tuple(parts[:2]) == best else 1
                joined.append("".join(parts[:width]))
                parts = parts[width:]
            parts = joined
        ids += [vocab.get(part, 0) for part in parts]
    return ids


def test_special_tokens_follow_the_vocabulary() -> None:
    tokenizer = Tokenizer.from_vocab(*toy_vocab())
    assert (tokenizer.unk, tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.eos) == (0, 15, 16, 17, 18)
    assert tokenizer.vocab_size == 19


def test_special_tokens_of_the_vocabulary_are_reused() -> None:
    vocab, merges = toy_vocab()
    vocab |= {"<eos>": 15, "<extra>": 16}
    tokenizer = Tokenizer.from_vocab(vocab, merges)
    assert (tokenizer.eos, tokenizer.pad, tokenizer.bos, tokenizer.sep) == (15, 17, 18, 19)
    assert vocab.keys().isdisjoint({"<pad>", "<bos>", "<sep>"}), "the caller's vocabulary is left as it was"


def test_golden_ids() -> None:
    tokenizer = Tokenizer.from_vocab(*toy_vocab())
    ids = tokenizer.encode("Low lower\nwoz")
    assert ids == [12, 11, 3, 13, 14, 3, 2, 0]
    assert tokenizer.tokens(ids) == ["low</w>", "lo", "w", "er</w>", "\n</w>", "w", "o", "<unk>"]


@given(st.text("abcdlowe ", max_size=60))
@settings(deadline=None)
def test_encode_equals_bpe_written_by_hand(text: str) -> None:
    merges = [("a", "b"), ("ab", "ab"), ("b", "a"), ("a", "a"), ("c", "d</w>"), ("l", "o"), ("lo", "w</w>")]
    symbols = [*"abcdlow", *(c + "</w>" for c in "abcdlow"), *("".join(pair) for pair in merges)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(["<unk>", *symbols]))}
    assert Tokenizer.from_vocab(vocab, merges).encode(text) == reference_encode(text, vocab, merges)


def test_text_never_produces_a_special_token(tokenizer: Tokenizer) -> None:
    special = {tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.eos}
    for text in [*NASTY, *SPECIAL_TOKENS, "a<eos>b", "<pad</w>>"]:
        assert special.isdisjoint(tokenizer.encode(text))
    assert tokenizer.unk in tokenizer.encode("<eos>"), "it is no HTML tag, and `<` is not in this vocabulary"


def test_encode_batch_equals_encode_in_every_thread(tokenizer: Tokenizer) -> None:
    texts = (TEXTS + NASTY + ["a\ud800b"]) * 5
    expected = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    assert tokenizer.encode_batch([]) == []
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == expected


def test_decode_gives_readable_text(tokenizer: Tokenizer) -> None:
    text = "the storm (10 calm days) wasn't afraid; out, out!\nthe keeper's daughter, 12."
    ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.sep, tokenizer.eos, tokenizer.pad]
    assert set("()!") - set("".join(TEXTS)) == set("()!"), "these are unknown and left out"
    assert tokenizer.decode(ids) == "the storm 10 calm days wasn't afraid; out, out\nthe keeper's daughter, 12."
    assert tokenizer.decode([]) == ""


def test_brackets_stand_close_in_decoded_text() -> None:
    symbols = "()[]ab,?"
    vocab = {token: i for i, token in enumerate(["<unk>", *symbols, *(s + "</w>" for s in symbols)])}
    tokenizer = Tokenizer.from_vocab(vocab, [])
    assert tokenizer.decode(tokenizer.encode("(a) [b], a?")) == "(a) [b], a?"


@pytest.mark.parametrize("bad", [-1, 10**6, 2**40])
def test_ids_outside_the_vocabulary_are_errors(tokenizer: Tokenizer, bad: int) -> None:
    for method in (tokenizer.decode, tokenizer.tokens):
        with pytest.raises(UserError, match=f"{bad}: expected 0 to"):
            method([1, bad])


def test_save_then_load_gives_the_same_files_byte_for_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "rebuilt")
    saved = files_of(tmp_path / "rebuilt")
    assert set(saved) == {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"}
    assert saved["merges.txt"].startswith(b"#version: 0.2\n")
    assert json.loads(saved["vocab.json"]) == tokenizer.backend.get_vocab()
    config = json.loads(saved["tokenizer_config.json"])
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"], "token_type_ids would be added as embeddings"
    Tokenizer.load(tmp_path / "rebuilt").save(tmp_path / "again")
    assert files_of(tmp_path / "again") == saved
    (tmp_path / "rebuilt" / "gpt1.json").write_text('{"words": "fast", "segments": false}')
    Tokenizer.load(tmp_path / "rebuilt").save(tmp_path / "verbatim")
    assert files_of(tmp_path / "verbatim") == saved


def test_tokenizer_json_of_our_own_directory_is_used_as_it_stands(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A later version may split differently; a model must keep the pre-tokenizer of its training."""
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["normalizer"]["normalizers"] = []  # no longer lower case
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "gpt1.json").write_text('{"words": "fast"}')
    assert Tokenizer.load(tmp_path).encode("OUT of the storm") == [0, 0, 0, *tokenizer.encode("of the storm")]
    (tmp_path / "gpt1.json").unlink()
    again = Tokenizer.load(tmp_path)
    assert again.pretokenizer == "fast", "tokenizer_config.json says so"
    assert again.encode("OUT of") == [0, 0, 0, *tokenizer.encode("of")]
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.load(tmp_path, "fast").encode("OUT of") == tokenizer.encode("out of"), "not ours: built anew"


def openai_files(directory: Path, vocab: Vocab, merges: Merges) -> None:
    (directory / "encoder_bpe_40000.json").write_text(json.dumps(vocab))
    (directory / "vocab_40000.bpe").write_text("".join(["#version: 0.2\n", *(f"{a} {b}\n" for a, b in merges)]))


def xz_files(directory: Path, vocab: Vocab, merges: Merges) -> None:
    openai_files(directory, vocab, merges)
    for path in list(directory.iterdir()):
        path.with_name(path.name + ".xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()


def slow_hf_files(directory: Path, vocab: Vocab, merges: Merges) -> None:
    openai_files(directory, vocab, merges)
    (directory / "encoder_bpe_40000.json").rename(directory / "vocab.json")
    (directory / "vocab_40000.bpe").rename(directory / "merges.txt")


def windows_hf_files(directory: Path, vocab: Vocab, merges: Merges) -> None:
    slow_hf_files(directory, vocab, merges)
    path = directory / "merges.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def fast_hf_file(directory: Path, vocab: Vocab, merges: Merges) -> None:
    model = {"end_of_word_suffix": "</w>", "vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]}
    (directory / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": model}))


LAYOUTS = [openai_files, xz_files, slow_hf_files, windows_hf_files, fast_hf_file]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_known_layout_loads(write: Callable[[Path, Vocab, Merges], None], tmp_path: Path) -> None:
    write(tmp_path, *toy_vocab())
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.pretokenizer == "openai", "the original's files, and no word of another pre-tokenizer"
    assert tokenizer.backend.to_str() == Tokenizer.from_vocab(*toy_vocab(), "openai").backend.to_str()


def test_added_tokens_of_a_hugging_face_directory_keep_their_ids(tmp_path: Path) -> None:
    slow_hf_files(tmp_path, *toy_vocab())
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 16, "_classify_": 15}')
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.pad, tokenizer.bos, tokenizer.vocab_size) == (16, 17, 20)


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        text = (directory / name).read_text(encoding="utf-8")
        assert old in text
        (directory / name).write_text(text.replace(old, new), encoding="utf-8")

    return edit


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def raw(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda directory: (directory / name).write_bytes(data)


BAD_HF: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no merges": (lambda d: (d / "merges.txt").unlink(), "merges.txt: no such file"),
    "no vocabulary": (lambda d: (d / "vocab.json").unlink(), "vocab.json: no such file"),
    "neither": (empty, "no tokenizer here; expected tokenizer.json"),
    "bad JSON": (raw("vocab.json", b'{"a": 0,'), "vocab.json: not JSON"),
    "not an object": (raw("vocab.json", b"[]"), "vocab.json: expected a JSON object, found list"),
    "not UTF-8": (raw("merges.txt", b"l o\n\xff\xfe\n"), "merges.txt: cannot be read"),
    "bad xz": (lambda d: (d / "merges.txt").rename(d / "merges.txt.xz"), "merges.txt.xz: cannot be read"),
    "hole": (edited("vocab.json", '"er</w>": 13', '"er</w>": 99'), "vocab.json: no token has id 13"),
    "negative": (edited("vocab.json", '"er</w>": 13', '"er</w>": -1'), "vocab.json: no token has id 13"),
    "duplicate": (edited("vocab.json", '"er</w>": 13', '"er</w>": 12'), "id 12 belongs to both 'low</w>' and 'er</w>'"),
    "not a number": (edited("vocab.json", '"er</w>": 13', '"er</w>": 13.5'), "token 'er</w>' has id 13.5"),
    "no <unk>": (edited("vocab.json", "<unk>", "<UNK>"), "vocab.json: no token <unk>"),
    "unknown part": (edited("merges.txt", "l o", "x o"), "merge 1 ('x' and 'o') needs 'x'"),
    "unknown result": (edited("merges.txt", "e r</w>", "e w"), "merge 3 ('e' and 'w') needs 'ew'"),
    "one symbol": (edited("merges.txt", "lo w</w>", "low"), "merges.txt: merge 2 is 'low'; expected two symbols"),
    "three symbols": (edited("merges.txt", "l o", "l o w"), "merges.txt: merge 1 is 'l o w'"),
    "bad added tokens": (raw("added_tokens.json", b"7"), "added_tokens.json: expected a JSON object, found int"),
    "bad gpt1.json": (raw("gpt1.json", b"{"), "gpt1.json: not JSON"),
    "no words": (raw("gpt1.json", b"{}"), "gpt1.json: words None"),
    "unknown words": (raw("gpt1.json", b'{"words": "elvish"}'), "unknown pre-tokenizer 'elvish'"),
}


@pytest.mark.parametrize("case", BAD_HF)
def test_a_bad_hugging_face_directory_is_an_error_that_names_the_entry(case: str, tmp_path: Path) -> None:
    slow_hf_files(tmp_path, *toy_vocab())
    damage, message = BAD_HF[case]
    damage(tmp_path)
    with pytest.raises(UserError) as caught:
        Tokenizer.load(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value), "one line"


BAD_OWN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bad JSON": (raw("tokenizer.json", b"{"), "tokenizer.json: not JSON"),
    "no model": (raw("tokenizer.json", b"{}"), "tokenizer.json: model: expected a JSON object"),
    "no merges": (edited("tokenizer.json", '"merges"', '"margins"'), "tokenizer.json: merges: expected a list"),
    "other model": (edited("tokenizer.json", '"type": "BPE"', '"type": "WordPiece"'), "a WordPiece model"),
    "no </w>": (edited("tokenizer.json", '"end_of_word_suffix": "</w>"', '"end_of_word_suffix": null'), "suffix None"),
    "hole": (edited("tokenizer.json", '"er</w>": 13', '"er</w>": 99'), "tokenizer.json: no token has id 13"),
    "no special token": (edited("tokenizer.json", "<sep>", "<SEP>"), "tokenizer.json: no token <sep>"),
    "a blank in a merge": (edited("tokenizer.json", '"l",\n', '"l ",\n'), "merge 1 of 'l ' and 'o' contains a blank"),
    "unknown words": (raw("gpt1.json", b'{"words": "elvish"}'), "unknown pre-tokenizer 'elvish'"),
    "bad pipeline": (edited("tokenizer.json", '"type": "NFC"', '"type": "NFX"'), "cannot read it"),
}


@pytest.mark.parametrize("case", BAD_OWN)
def test_a_bad_directory_of_ours_is_an_error_that_names_the_entry(case: str, tmp_path: Path) -> None:
    Tokenizer.from_vocab(*toy_vocab()).save(tmp_path)
    (tmp_path / "gpt1.json").write_text('{"words": "fast"}')
    damage, message = BAD_OWN[case]
    damage(tmp_path)
    with pytest.raises(UserError) as caught:
        Tokenizer.load(tmp_path)
    assert message in str(caught.value)


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such directory"):
        Tokenizer.load(tmp_path / "nowhere")


# ---- the original vocabulary


@needs_original
def test_the_original_files_load_and_come_back_byte_for_byte(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(ORIGINAL)
    assert (tokenizer.vocab_size, tokenizer.unk) == (40_482, 0)
    assert [tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.eos] == [40_478, 40_479, 40_480, 40_481]
    assert tokenizer.tokens([40_477]) == [NEWLINE]
    tokenizer.save(tmp_path)
    merges = lzma.decompress((ORIGINAL / "vocab_40000.bpe.xz").read_bytes())
    assert (tmp_path / "merges.txt").read_bytes() == merges
    saved = files_of(tmp_path)
    Tokenizer.load(tmp_path).save(tmp_path)
    assert files_of(tmp_path) == saved


@needs_original
def test_encode_equals_bpe_written_by_hand_on_the_original_vocabulary() -> None:
    vocab = json.loads(lzma.decompress((ORIGINAL / "encoder_bpe_40000.json.xz").read_bytes()))
    lines = lzma.decompress((ORIGINAL / "vocab_40000.bpe.xz").read_bytes()).decode().split("\n")[1:-1]
    merges: Merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    tokenizer = Tokenizer.from_vocab(vocab, merges)
    for text in TEXTS + NASTY:
        assert tokenizer.encode(text) == reference_encode(text, vocab, merges)


# ---- transformers


@pytest.fixture(scope="module", params=["trained", pytest.param("original", marks=needs_original)])
def loaded_by_both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("model")
    ours = Tokenizer.load(ORIGINAL, "fast") if request.param == "original" else request.getfixturevalue("tokenizer")
    ours.save(directory)
    (directory / "config.json").write_text('{"model_type": "openai-gpt"}')
    return ours, transformers.AutoTokenizer.from_pretrained(directory)


def real_reviews() -> list[str]:
    if not IMDB.exists():
        return []
    with lzma.open(IMDB, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(50), strict=False)]


def test_transformers_gives_the_same_ids_from_the_files_alone(loaded_by_both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = loaded_by_both
    for text in NASTY + TEXTS + list(SPECIAL_TOKENS) + real_reviews():
        ids = [ours.bos, *ours.encode(text), ours.eos]
        encoding = theirs(text)
        assert encoding["input_ids"] == ids
        assert set(encoding) == {"input_ids", "attention_mask"}
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


def test_transformers_joins_pairs_and_truncates_the_longest_first(loaded_by_both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = loaded_by_both
    for n, m in [(1, 1), (40, 2), (2, 40), (40, 40), (0, 60)]:
        a, b = TEXTS[0] * n, TEXTS[2] * m
        ids_a, ids_b = ours.encode(a), ours.encode(b)
        assert theirs(a, b)["input_ids"] == [ours.bos, *ids_a, ours.sep, *ids_b, ours.eos]
        excess = len(ids_a) + len(ids_b) + 3 - 512
        while excess > 0:
            (ids_a if len(ids_a) > len(ids_b) else ids_b).pop()
            excess -= 1
        cut = theirs(a, b, truncation="longest_first")["input_ids"]
        assert len(cut) <= 512
        assert (cut[0], cut.count(ours.sep), cut[-1]) == (ours.bos, 1, ours.eos)
        kept_a, kept_b = cut[1 : cut.index(ours.sep)], cut[cut.index(ours.sep) + 1 : -1]
        assert (kept_a, kept_b) == (ours.encode(a)[: len(kept_a)], ours.encode(b)[: len(kept_b)])
        assert abs(len(kept_a) - len(ids_a)) <= 1, "which part loses the odd token is the library's choice"


def test_transformers_pads_on_the_right_and_knows_the_special_tokens(loaded_by_both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = loaded_by_both
    ids = [theirs.pad_token_id, theirs.bos_token_id, theirs.sep_token_id, theirs.eos_token_id, theirs.unk_token_id]
    assert ids == [ours.pad, ours.bos, ours.sep, ours.eos, ours.unk]
    assert (theirs.model_max_length, len(theirs)) == (512, ours.vocab_size)
    short, _ = theirs(["storm", "the storm was afraid"], padding=True)["input_ids"]
    assert short[-1] == ours.pad


def test_a_directory_that_transformers_saved_loads(loaded_by_both: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, theirs = loaded_by_both
    theirs.save_pretrained(tmp_path)
    assert Tokenizer.load(tmp_path).backend.to_str() == ours.backend.to_str()
