"""What a study's file can say beyond plain axes: conditions, ties, workloads, several subjects."""

import tomllib
from pathlib import Path

import pytest

from kvscape.errors import ConfigError
from kvscape.study import Space, parse_space, space_of_axes


def space(text: str) -> Space:
    return parse_space(tomllib.loads(text), Path("study.toml"))


def test_sinks_only_with_a_window() -> None:
    read = space(
        """
        axes = {sliding_window_size = [-1, 256], attention_sink_size = [0, 4]}
        when = {attention_sink_size = {sliding_window_size = "> 0"}}
        """
    )
    chosen = [(point.engine.sliding_window_size, point.engine.attention_sink_size) for point in read.points]
    assert chosen == [(-1, 0), (256, 0), (256, 4)]


def test_a_parameter_whose_condition_fails_is_what_the_base_says() -> None:
    read = space(
        """
        base = {page_size = 32}
        axes = {kv_dtype = ["f16", "int8"], page_size = [8, 64]}
        when = {page_size = {kv_dtype = "int8"}}
        """
    )
    assert [(point.engine.kv_dtype, point.engine.page_size) for point in read.points] == [
        ("f16", 32), ("int8", 8), ("int8", 64),
    ]  # fmt: skip


def test_a_tied_value_follows_the_others() -> None:
    read = space(
        """
        axes = {context_window_size = "512:2048:*2", max_batch_size = [1, 4]}
        [tie]
        prefill_chunk_size = "min(context_window_size // 2, 512)"
        max_total_sequence_length = "context_window_size * max_batch_size - 16"
        """
    )
    chosen = [(point.engine.prefill_chunk_size, point.engine.max_total_sequence_length) for point in read.points]
    assert chosen == [(256, 496), (256, 2032), (512, 1008), (512, 4080), (512, 2032), (512, 8176)]


def test_two_parameters_of_one_axis_change_together() -> None:
    read = space('[axes]\n"context_window_size, prefill_chunk_size" = [[512, 64], [4096, 256]]\nseed = [0, 1]')
    chosen = [(point.engine.context_window_size, point.engine.prefill_chunk_size) for point in read.points]
    assert chosen == [(512, 64), (512, 64), (4096, 256), (4096, 256)]


WORKLOADS = """
[workloads.chat]
prompt_tokens = 64
max_tokens = 128
[workloads.service]
prompt_tokens = 512
max_tokens = 32
max_batch_size = 4
"""


def test_every_point_has_every_workload() -> None:
    read = space(f'axes = {{kv_dtype = ["f16", "int8"]}}\n{WORKLOADS}')
    chosen = [(p.engine.kv_dtype, p.workload.prompt_tokens, p.engine.max_batch_size) for p in read.points]
    assert chosen == [("f16", 64, 1), ("f16", 512, 4), ("int8", 64, 1), ("int8", 512, 4)]
    assert read.workloads["service"] == {"prompt_tokens": 512, "max_tokens": 32, "max_batch_size": 4}


def test_a_grid_and_a_point_may_choose_their_workload() -> None:
    text = '[[grid]]\nworkload = "chat"\nseed = [1, 2]\n[[points]]\nworkload = "service"\nseed = 3\n'
    chosen = [(point.workload.seed, point.workload.prompt_tokens) for point in space(text + WORKLOADS).points]
    assert chosen == [(1, 64), (2, 64), (3, 512)]
    assert len(space(WORKLOADS).points) == 2


def test_requests_may_come_at_several_rates() -> None:
    read = space(
        """
        axes = {request_rate = [0, 0.5, 2], max_batch_size = [1, 4]}
        when = {num_requests = {request_rate = "> 0"}}
        tie = {num_requests = "max_batch_size * 4"}
        [[exclude]]
        request_rate = "> 0.5"
        max_batch_size = 1
        reason = "one at a time cannot keep up"
        """
    )
    chosen = [(p.workload.request_rate, p.num_requests) for p in read.points]
    assert chosen == [(None, 4), (None, 16), (0.5, 4), (0.5, 16), (2.0, 16)]
    assert [entry.point.workload.request_rate for entry in read.excluded] == [2.0]


def test_a_peer_that_runs_all_together_is_left_out_of_a_workload_over_time() -> None:
    read = space('axes = {subject = ["kvscape", "llamacpp"]}\nbase = {request_rate = 2}')
    assert [point.subject for point in read.points] == ["kvscape"]
    assert [entry.reason.split(":")[0] for entry in read.excluded] == ["llamacpp has no request_rate = 2.0"]


def test_each_subject_gets_the_knobs_that_it_has() -> None:
    read = space(
        """
        [axes]
        subject = ["kvscape", "llamacpp"]
        quantization = ["auto", "q4f16_1", "q4_0"]
        page_size = [16, 32]
        """
    )
    chosen = [(point.subject, point.build.quantization, point.engine.page_size) for point in read.points]
    assert chosen == [
        ("kvscape", "auto", 16), ("kvscape", "auto", 32), ("kvscape", "q4f16_1", 16), ("kvscape", "q4f16_1", 32),
        ("llamacpp", "auto", 16), ("llamacpp", "q4_0", 16),
    ]  # fmt: skip
    reasons = [(entry.point.subject, entry.reason.split(";")[0]) for entry in read.excluded]
    assert ("llamacpp", "llamacpp has no quantization 'q4f16_1'") in reasons
    assert any(subject == "kvscape" and "q4_0" in reason for subject, reason in reasons)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes = {subject = ['kvscape', 'llamacpp'], quantization = ['auto', 'q4f16']}", "'q4f16'"),
        ("axes = {subject = 'llamacpp', page_size = [32]}", "llamacpp has no page_size = 32"),
        ("axes = {seed = [0]}\nwhen = {sead = {seed = 0}}", "did you mean 'seed'?"),
        ("axes = {seed = [0]}\nwhen = {seed = {sead = 0}}", "unknown key 'sead' in [when] of study.toml"),
        ("axes = {seed = [0]}\ntie = {seed = 3}", "3 in [tie] of study.toml: expected an expression"),
        ("axes = {seed = [0]}\ntie = {seed = 'num_run + 1'}", "did you mean 'num_runs'?"),
        ("axes = {seed = [0]}\ntie = {seed = 'num_runs +'}", "it is no expression"),
        ("axes = {seed = [0]}\ntie = {seed = '__import__(\"os\")'}", "it is more than arithmetic"),
        ("axes = {seed = [0]}\ntie = {seed = 'model.name'}", "it is more than arithmetic"),
        ("axes = {seed = [0]}\ntie = {seed = '1 // 0'}", "division"),
        ("axes = {workload = ['chat']}", "unknown workload 'chat' in study.toml"),
        ("axes = {'seed, num_runs' = [[1, 2, 3]]}", "it sets 2 parameters"),
        ("axes = {seed = [0]}\nworkloads = {chat = 1}", "expected a table"),
        ("axes = {seed = '0:4'}", "it is not start:stop:step"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        space(text)
    assert message in str(error.value)


def test_exclusions_compare() -> None:
    read = space("axes = {max_batch_size = '1:6:1'}\n[[exclude]]\nmax_batch_size = '>= 3'\nreason = 'too many'")
    assert [point.engine.max_batch_size for point in read.points] == [1, 2]


def test_flags_make_a_small_space() -> None:
    read = space_of_axes(["kv_dtype=f16,int8", "context_window_size=1024:4096:*2", "num_runs=1"], "small")
    assert (read.name, len(read.points)) == ("small", 6)
    with pytest.raises(ConfigError, match="--axis kv_dtype: it is given twice"):
        space_of_axes(["kv_dtype=f16", "kv_dtype=int8"])
    with pytest.raises(ConfigError, match="unknown key 'kv_type' in the command line; did you mean 'kv_dtype'"):
        space_of_axes(["kv_type=f16"])


def test_thousands_of_points_are_listed() -> None:
    read = space(
        """
        [axes]
        quantization = ["auto", "q8f16_1", "q4f16_1", "q3f16_1"]
        kv_dtype = ["f16", "int8", "int4"]
        context_window_size = "512:8192:*2"
        prefill_chunk_size = [64, 128, 256, 512]
        max_batch_size = [1, 2, 4, 8]
        sliding_window_size = [-1, 512, 1024]
        """
    )
    assert len(read.points) == len(set(read.points)) == 2880
