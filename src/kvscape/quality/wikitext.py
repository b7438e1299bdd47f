"""WikiText's own form: rows, pages, and text whose tokens stand apart, as its authors published it."""

import re
from collections.abc import Iterable

# Spaces that WikiText's tokenizer put around marks, and what was there before; in this order.
_MARKS = {
    "s '": "s'", " @-@ ": "-", " @,@ ": ",", " @.@ ": ".", " : ": ": ", " ; ": "; ", " . ": ". ", " ! ": "! ",
    " ? ": "? ", " , ": ", ",
}  # fmt: skip
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'"))
_ENDS = {
    "= = = =": "====", "= = =": "===", "= =": "==", " \N{DEGREE SIGN} ": "\N{DEGREE SIGN}", " \n": "\n", "\n ": "\n",
    " N ": " 1 ", " 's": "'s",
}  # fmt: skip


def raw(rows: Iterable[str]) -> str:
    """The file that the rows of the hub's data set came from: there an empty line is a space and its end."""
    return "".join(row or " \n" for row in rows)


def is_wikitext(content: str) -> bool:
    """Whether a text begins as WikiText's raw files do, with a heading of the first level."""
    first = next((line for line in content.split("\n", 8) if line.strip()), "")
    return first.startswith(" = ") and _is_title(first)


def pages(content: str) -> list[str]:
    """The articles, each from its title to the next one's, as the hub's data set of documents has them."""
    starts: list[list[str]] = [[]]
    for line in content.split("\n"):
        if _is_title(line):
            starts.append([])
        starts[-1].append(line)
    found = ("\n".join(lines) for lines in starts)
    return [page for page in found if page.strip()]


def _is_title(line: str) -> bool:
    level = line.replace("= = =", "===").replace("= =", "==").strip()
    return level.startswith("= ") and level.endswith(" =")


def detokenized(page: str) -> str:
    """A page as it would be written: lm-evaluation-harness scores WikiText in this form.

    The replacements and their order are those of its task ``wikitext``, so that figures compare.
    """
    for apart, written in _MARKS.items():
        page = page.replace(apart, written)
    for first, last in _PAIRS:
        inside = rf"{re.escape(first)}\s*([^{re.escape(last)}]*?)\s*{re.escape(last)}"
        page = re.sub(inside, rf"{first}\1{last}", page)
    for apart, written in _ENDS.items():
        page = page.replace(apart, written)
    return page
