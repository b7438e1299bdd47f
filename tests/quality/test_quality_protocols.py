import pytest

from kvscape.errors import ConfigError
from kvscape.quality import Settings
from kvscape.quality.protocols import PROTOCOLS, cut

TEXT = list(range(100, 1150))


def test_windows_are_side_by_side_and_the_rest_is_dropped() -> None:
    found = cut(TEXT, Settings("windows", 512))
    assert [(window.token_ids, window.first_target) for window in found] == [(TEXT[:512], 1), (TEXT[512:1024], 1)]


def test_bos_stands_before_the_text_once() -> None:
    assert [window.token_ids[0] for window in cut(TEXT, Settings("windows", 500), bos=1)] == [1, TEXT[499]]
    assert [window.token_ids[0] for window in cut(TEXT, Settings("stride", 500, stride=250), bos=1)][:2] == [1, 349]


def test_llamacpp_scores_the_second_half_of_each_chunk() -> None:
    found = cut(TEXT, Settings("llamacpp", 512))
    scored = [window.token_ids[window.first_target :] for window in found]
    assert scored == [TEXT[257:512], TEXT[769:1024]]


def test_llamacpp_puts_bos_before_the_text_and_at_the_start_of_each_chunk() -> None:
    found = cut(TEXT, Settings("llamacpp", 512), bos=1)
    assert [window.token_ids for window in found] == [[1, *TEXT[:511]], [1, *TEXT[512:1023]]]


@pytest.mark.parametrize(("context", "stride"), [(400, 100), (400, 150), (1050, 500), (1000, 999)])
def test_stride_scores_every_token_but_the_first_once_behind_the_longest_context(context: int, stride: int) -> None:
    found = cut(TEXT, Settings("stride", context, stride=stride))
    assert [token for window in found for token in window.token_ids[window.first_target :]] == TEXT[1:]
    for window in found[1:-1]:
        assert (len(window.token_ids), window.tokens_scored) == (context, stride)
    assert found[-1].token_ids[-1] == TEXT[-1]


def test_without_overlap_stride_scores_what_windows_do_and_the_rest() -> None:
    found, windows = cut(TEXT, Settings("stride", 400, stride=400)), cut(TEXT, Settings("windows", 400))
    assert found[:2] == windows and (found[2].token_ids, found[2].first_target) == (TEXT[800:], 1)
    assert len(cut(TEXT[:401], Settings("stride", 400, stride=400))) == 1  # a window of one token scores none


def test_a_windows_loss_weighs_as_in_hugging_faces_guide() -> None:
    assert [window.weight for window in cut(TEXT[:700], Settings("stride", 400, stride=200))] == [
        1,
        199 / 200,
        99 / 100,
    ]


def test_a_stream_is_one_sequence_of_at_most_context_tokens() -> None:
    (window,) = cut(TEXT, Settings("stream", 800, stride=100), bos=1)
    assert (window.token_ids, window.first_target) == ([1, *TEXT[:799]], 1)
    (window,) = cut(TEXT, Settings("stream", 8000))
    assert window.token_ids == TEXT


@pytest.mark.parametrize("length", [1, 99, 100, 101, 200, 250, 1050])
def test_rolling_windows_score_every_token_of_a_document(length: int) -> None:
    document = TEXT[:length]
    found = cut(document, Settings("word", 100), bos=1)
    assert [token for window in found for token in window.token_ids[window.first_target :]] == document
    assert found[0].token_ids[0] == 1 and found[0].first_target == 1
    assert all(len(window.token_ids) == 101 for window in found[1:])
    assert [window.first_target for window in found[1:-1]] == [1] * (len(found) - 2)


def test_rolling_windows_are_those_of_lm_evaluation_harness() -> None:
    """What its ``get_rolling_token_windows`` gives for ten tokens, at most four of them in a window."""
    found = cut(list(range(10)), Settings("word", 4), bos=100)
    contexts = [window.token_ids[: window.first_target] for window in found]
    targets = [window.token_ids[window.first_target :] for window in found]
    assert contexts == [[100], [3], [5, 6, 7]]
    assert targets == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_limit_counts_windows() -> None:
    assert len(cut(TEXT, Settings("windows", 100, limit=3))) == 3
    assert len(cut(TEXT, Settings("stride", 100, limit=3, stride=10))) == 3


@pytest.mark.parametrize("protocol", ["windows", "stride", "llamacpp"])
def test_a_text_of_exactly_one_window_is_enough(protocol: str) -> None:
    assert len(cut(TEXT[:512], Settings(protocol, 512))) == 1
    with pytest.raises(ConfigError, match="the text has 511 tokens: one window of 512 is needed"):
        cut(TEXT[:511], Settings(protocol, 512))


def test_a_stream_has_more_than_one_mark() -> None:
    with pytest.raises(ConfigError, match="the text has 100 tokens: more than 100 are needed"):
        cut(TEXT[:100], Settings("stream", 800, stride=100))


def test_each_protocol_has_its_own_context_and_stride() -> None:
    assert {name: (Settings(name).context, Settings(name).stride) for name in PROTOCOLS} == {
        "windows": (2048, 0),
        "stride": (2048, 512),
        "llamacpp": (512, 0),
        "stream": (20_000, 1000),
        "word": (2048, 0),
    }
    assert Settings("stride", 100).stride == 50


def test_a_model_made_for_less_has_a_smaller_context() -> None:
    assert Settings("windows").within(1024) == Settings("windows", 1024)
    assert Settings("llamacpp").within(1024) == Settings("llamacpp")
    assert Settings("stride").within(256) == Settings("stride", 256, stride=128)
    word = Settings("word").within(2048)
    assert (word.context, word.sequence_tokens) == (2047, 2048)


def test_an_unknown_protocol_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="did you mean 'llamacpp'"):
        Settings("llama.cpp")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("windows", 3), "at least 4 tokens"),
        (("windows", 512, 0), "at least one window"),
        (("windows", 512, None, 16), "windows has none; use the protocol 'stride'"),
        (("stride", 512, None, 513), "at most context = 512"),
        (("stride", 512, None, -1), "at least 1"),
        (("stream", 512, 2), "a stream is one sequence"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: tuple[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings(*settings)
