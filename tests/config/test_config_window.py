from hypothesis import given
from hypothesis import strategies as st

from kvscape.config import Window

windows = st.builds(Window, sinks=st.integers(0, 40), recent=st.integers(1, 60))
sizes = st.sampled_from([8, 16, 24])
groups = st.sampled_from([1, 16])


def read_tokens(window: Window, position: int, key_group: int) -> set[int]:
    """Tokens that a query from ``position`` on may see, with all that share a group with them."""
    seen = [*range(min(window.sinks, position)), *range(max(0, position - window.recent + 1), position + 1)]
    return {
        other
        for token in seen
        for other in range(token // key_group * key_group, -(-(token + 1) // key_group) * key_group)
    }


@given(window=windows, position=st.integers(1, 300), page_size=sizes, key_group=groups)
def test_exactly_the_pages_that_nobody_reads_again_are_given_back(
    window: Window, position: int, page_size: int, key_group: int
) -> None:
    read = {token // page_size for token in read_tokens(window, position, key_group)}
    unseen = set(window.unseen_pages(position, page_size, key_group))
    assert unseen == set(range(max(read))) - read


@given(window=windows, tokens=st.integers(1, 300), chunk=st.integers(1, 64), page_size=sizes, key_group=groups)
def test_a_sequence_never_holds_more_than_the_most_pages(
    window: Window, tokens: int, chunk: int, page_size: int, key_group: int
) -> None:
    most = window.most_pages(tokens, chunk, page_size, key_group)
    for start in range(0, tokens, chunk):
        stop = min(start + chunk, tokens)
        freed = window.unseen_pages(start, page_size, key_group) if start else range(0)
        assert -(-stop // page_size) - len(freed) <= most
