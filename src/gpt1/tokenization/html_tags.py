r"""HTML tags, comments and doctypes in lower-case text, as a pattern for `tokenizers` and for `re`.

A tag is `<` or `</`, the name of an element of HTML, then only attributes, blanks and slashes, and `>`. So `<br />` is
a tag, while `<not bad>`, `<b and c>` and `<someone@example.com>` are text. Names: HTML Living Standard, "Index" and,
for elements that are obsolete, "Non-conforming features".

Every part has a maximum length and at most one reading, so that the search takes linear time and a corpus can be split
between tags. The pattern uses only what Oniguruma (the engine of `tokenizers`) and `re` read alike: no `\s`, which
matches other blanks there, no flags, and atomic groups instead of `{m,n}+`, which is not possessive in Oniguruma.
"""

from __future__ import annotations

import re
from itertools import groupby

_ELEMENTS = """
    a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption cite code col
    colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset figcaption figure footer form h1 h2 h3
    h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend li link main map mark math menu meta
    meter nav noscript object ol optgroup option output p picture pre progress q rp rt ruby s samp script search section
    select selectedcontent slot small source span strong style sub summary sup svg table tbody td template textarea
    tfoot th thead time title tr track u ul var video wbr
    acronym applet basefont bgsound big blink center dir font frame frameset isindex keygen listing marquee menuitem
    multicol nextid nobr noembed noframes param plaintext rb rtc spacer strike tt xmp
"""
_ATTRIBUTES_WITHOUT_VALUE = """
    allowfullscreen async autofocus autoplay checked compact contenteditable controls crossorigin declare default defer
    disabled download formnovalidate hidden inert ismap itemscope loop multiple muted nohref nomodule noresize noshade
    novalidate nowrap open playsinline popover readonly required reversed sandbox selected
"""

MOST_ATTRIBUTES = 32
LONGEST_VALUE = 1_000
"""Maximum characters of an attribute's value and of a doctype."""
LONGEST_COMMENT = 10_000
_LONGEST_NAME = 50
_MOST_BLANKS = 100


def _any_of(names: str) -> str:
    """Return the pattern of the names in a list, by first letter; the longest first, since it is not tried again."""
    rests = {first: [name[1:] for name in group] for first, group in groupby(sorted(names.split()), lambda n: n[0])}
    each = (f"{first}(?:{'|'.join(sorted(rest, key=len, reverse=True))})" for first, rest in rests.items())
    return f"(?:{'|'.join(each)})"


_BLANK = r"[ \t\n\f\r]"
_BLANKS = rf"(?>{_BLANK}{{0,{_MOST_BLANKS}}})"
_START = rf"</?(?=[a-z]){_any_of(_ELEMENTS)}(?=[ \t\n\f\r/>])"
_NAME = rf"[@:]?[a-z_](?>[a-z0-9_:.-]{{0,{_LONGEST_NAME}}})"
_DOUBLE, _SINGLE, _UNQUOTED = (
    rf"(?>{characters}{{{least},{LONGEST_VALUE}}})"
    for characters, least in (('[^"]', 0), ("[^']", 0), (r"""[^ \t\n\f\r"'<>`]""", 1))
)
_EQUALS = rf"{_NAME}{_BLANKS}={_BLANKS}"
_WITHOUT_VALUE = rf"(?:{_any_of(_ATTRIBUTES_WITHOUT_VALUE)}|data-{_NAME})(?=[ \t\n\f\r/>])"
_ATTRIBUTE = rf"""(?:{_EQUALS}(?:"{_DOUBLE}"|'{_SINGLE}'|{_UNQUOTED})|{_WITHOUT_VALUE})"""
_UNFINISHED_ATTRIBUTE = rf"""(?:{_EQUALS}(?:"{_DOUBLE}|'{_SINGLE})?|{_NAME}{_BLANKS})?"""
_BETWEEN = rf"(?>[ \t\n\f\r/]{{0,{_MOST_BLANKS}}})"
_ATTRIBUTES = rf"(?>(?:{_BETWEEN}{_ATTRIBUTE}){{0,{MOST_ATTRIBUTES}}}){_BETWEEN}"
_COMMENT = rf"<!--(?>(?:[^<-]|-(?!->)|<(?!!--)){{0,{LONGEST_COMMENT}}})"
_DOCTYPE = rf"<!doctype(?>[^<>]{{0,{LONGEST_VALUE}}})"

TAG = rf"(?:{_START}{_ATTRIBUTES}>|{_COMMENT}-->|{_DOCTYPE}>)"
"""Pattern of a tag, a comment or a doctype in lower-case text."""

LONGEST_TAG = 45_000
"""Maximum characters of a tag, a comment or a doctype (rounded up)."""

_UP_TO_THE_NEXT_BRACKET = r"<[^<>]{0,1010}"
"""Start of a name or a doctype, and of a tag in tokenizers of before this rule: `<`, a letter, anything, `>`."""
_UNFINISHED = re.compile(
    rf"(?:{_UP_TO_THE_NEXT_BRACKET}|{_START}{_ATTRIBUTES}{_UNFINISHED_ATTRIBUTE}|{_COMMENT})\Z", re.IGNORECASE
)


def unfinished_tag(text: str) -> int | None:
    """Return where a tag, comment or doctype may start that the end of `text` leaves unfinished; None if nowhere."""
    found = _UNFINISHED.search(text, max(0, len(text) - LONGEST_TAG))
    return found.start() if found else None
