"""Texts that are difficult to tokenize."""

from __future__ import annotations

from pathlib import Path

TEXTS = [
    "The lighthouse keeper's daughter wasn't afraid of the storm; the storm was afraid of her.",
    "“Don’t go out,” said the keeper — but the daughter had gone out already…\nThe storm stopped.",
    "A good storm, he thought, is worth 10 calm days. The daughter thought of 12.",
    "灯塔看守人的女儿不怕风暴,风暴怕灯塔看守人的女儿。",
    "灯塔很高。风暴很大。看守人的女儿很高兴。",
]

NASTY = [
    "",
    " ",
    "\n",
    "\r\n\r\n  first\r\n\r\n second\rthird\n",
    "A <br /><br />B<i>talic</i> <a href='x>y'>z</a> <!-- c -->",
    "3 < 5 and 7 > 2, a</3 b <3 c",
    "<eos> <pad> <unk></w> < bos > <|endoftext|> &lt;sep&gt;",
    "“It’s” ‘so’ — said he… ´x´ ‐‒–―",
    "I'm rock'n'roll 'tis dogs' don''t O’Neill’s",
    "naïve NAÏVE nai\u0308ve İstanbul ΌΣΟΣ Straße",
    "你好world世界2026年 コーヒー ﾊﾟﾝ 〆切 한국어 ไทย हिन्दी",
    "\x00 a\x00b \x1c \u200b \ufeff \xad \u2028 \x85 \xa0",
    "👩‍👩‍👧 ❤️ 1️⃣ ½ Ⅷ",
]


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
