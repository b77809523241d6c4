"""What a listing shows, as a plain model says: the reference for tests."""

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

# Few letters, many meetings: separators, a prefix of a letter, bytes that sort late, a key's edges.
LETTERS = "a/b~é\U0001f300\uffff.%"
KEYS = st.text(LETTERS, min_size=1, max_size=7)
PREFIXES = st.one_of(st.just(""), st.text(LETTERS, max_size=3))
DELIMITERS = st.sampled_from(["", "/", "//", "b/", "é", "~"])


@dataclass(frozen=True)
class Expected:
    entries: list[tuple[bytes, bool]]
    """Each key (False) or common prefix (True) of the page, in byte order."""
    truncated: bool


def expected_page(
    keys: Iterable[str], prefix: str, delimiter: str, after: str, limit: int
) -> Expected:
    """List by definition: roll every key up, drop what was listed before, cut."""
    start, sep, low = prefix.encode(), delimiter.encode(), after.encode()
    entries: dict[bytes, bool] = {}
    for key in sorted(key.encode() for key in keys):
        if not key.startswith(start):
            continue
        rolled = False
        shown = key
        if sep and sep in key[len(start) :]:
            shown = key[: key.index(sep, len(start)) + len(sep)]
            rolled = True
        if key <= low or (rolled and shown == low):
            continue
        entries.setdefault(shown, rolled)
    page = sorted(entries.items())
    return Expected(page[:limit], 0 < limit < len(page))
