import tomllib
from pathlib import Path

import pytest

from kvscape.errors import ConfigError
from kvscape.quality import Settings, TextChoice, built_in_text
from kvscape.study import Space, parse_space, read_space

EXAMPLE = Path(__file__).parents[2] / "examples" / "kv_study.toml"


def space(text: str, path: Path = Path("study.toml")) -> Space:
    return parse_space(tomllib.loads(text), path)


def test_axes_are_a_product_over_the_base() -> None:
    read = space('base = {num_runs = 2}\naxes = {kv_dtype = ["f16", "int8"], max_batch_size = [1, 4]}')
    chosen = [(point.engine.kv_dtype, point.engine.max_batch_size) for point in read.points]
    assert chosen == [("f16", 1), ("f16", 4), ("int8", 1), ("int8", 4)]
    assert {point.workload.num_runs for point in read.points} == {2}


def test_several_grids_are_less_than_the_full_product() -> None:
    read = space(
        """
        [[grid]]
        quantization = ["q0f16", "q4f16_1"]
        [[grid]]
        quantization = "q4f16_1"
        kv_dtype = ["f16", "int8"]
        [[points]]
        quantization = "q8f16_1"
        """
    )
    chosen = [(point.build.quantization, point.engine.kv_dtype) for point in read.points]
    assert chosen == [("q0f16", "f16"), ("q4f16_1", "f16"), ("q4f16_1", "int8"), ("q8f16_1", "f16")]


def test_excluded_points_keep_their_reason() -> None:
    read = space(
        """
        axes = {kv_dtype = ["f16", "int8"], max_batch_size = [1, 4, 8]}
        [[exclude]]
        kv_dtype = "f16"
        max_batch_size = [4, 8]
        reason = "too much memory"
        """
    )
    assert len(read.points) == 4
    excluded = [(entry.point.engine.max_batch_size, entry.reason) for entry in read.excluded]
    assert excluded == [(4, "too much memory"), (8, "too much memory")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bass]\nseed = 1", "unknown key 'bass' in study.toml; did you mean 'base'?"),
        ("[axes]\nmax_batch = [1]", "unknown key 'max_batch' in study.toml; did you mean 'max_batch_size'?"),
        ("[[points]]\nkv_type = 'f16'", "did you mean 'kv_dtype'?"),
        ("[[points]]\nquantization = 'q4f16'", "unknown quantization 'q4f16'; did you mean 'q4f16_1'?"),
        ("[[points]]\nsubject = 'kvscap'", "unknown subject 'kvscap'; did you mean 'kvscape'?"),
        ("[axes]\nseed = [0]\n[ppl]\nprotokol = 'windows'", "unknown key 'protokol' in [ppl] of study.toml"),
        ("[axes]\nseed = [0]\n[ppl]\nprotocol = 'window'", "did you mean 'windows'?"),
        ("[axes]\nseed = [0]\n[ppl]\ndataset = 'wikitext'", "unknown dataset 'wikitext'; did you mean"),
        (
            "[axes]\nseed = [0]\n[ppl]\ndatset = 'ptb'",
            "unknown key 'datset' in [ppl] of study.toml; did",
        ),
        ("[axes]\nseed = [0]\n[ppl]\nsplit = 'test'", "there is no dataset"),
        ("[axes]\nseed = [0]\n[ppl]\nreference = 'q0f23'", "did you mean 'q0f32'?"),
        ("[axes]\nseed = [0]\n[ppl]\nstride = 8", "windows has none; use the protocol 'stride'"),
        ("[axes]\nseed = [0]\n[[exclude]]\nsead = 0\nreason = 'x'", "did you mean 'seed'?"),
        ("[axes]\nseed = [0]\n[[exclude]]\nseed = 0", "it needs conditions and a reason"),
        ("[axes]\nseed = []", "an axis has no values"),
        ("[base]\nseed = 1", "study.toml has no points"),
        ("[axes]\nmax_batch_size = ['four']", "max_batch_size = 'four' in study.toml: expected int"),
        ("grid = [1]", "expected a table"),
        ("axes = 3", "axes = 3 in study.toml: expected table"),
        ("axes = {seed = [0]}\ntimeout_s = 0", "a point would have no time"),
        ("axes = {seed = [0]}\nname = '../seed'", "it becomes part of a file's name"),
        ("axes = {seed = [0]}\nname = ' '", "it becomes part of a file's name"),
        ("axes = {seed = [0]}\n[when.seed]\nsliding_window_size = '=> 0'", "it is no comparison with a number"),
        ("axes = {seed = [0]}\n[when.seed]\nsliding_window_size = 'off'", "the parameter is a number"),
        ("axes = {seed = [0]}\n[[exclude]]\nkv_dtype = '!= f16'\nreason = 'x'", "it is no comparison"),
        ("axes = {seed = [0]}\n[[exclude]]\nkv_dtype = '> 8'\nreason = 'x'", "the parameter is no number"),
        ("axes = {seed = [0]}\n[search]\nbudget_minutes = nan", "there is no time"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        space(text)
    assert message in str(error.value)


def test_perplexity_is_asked_for_by_its_table() -> None:
    assert space("axes = {seed = [0]}").quality is None
    quality = space("axes = {seed = [0]}\n[ppl]\nprotocol = 'llamacpp'\ncontext = 256\nlimit = 2").quality
    assert quality is not None
    assert (quality.settings.protocol, quality.settings.context, quality.settings.limit) == ("llamacpp", 256, 2)
    assert quality.text == built_in_text()


def test_perplexity_may_have_a_reference_beside_it() -> None:
    quality = space("axes = {seed = [0]}\n[ppl]\nreference = 'q0f32'").quality
    assert quality is not None and quality.reference == "q0f32"


def test_a_text_lies_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("one two")
    quality = space("axes = {seed = [0]}\n[ppl]\ntext = 'poem.txt'", tmp_path / "study.toml").quality
    assert quality is not None
    assert (quality.text.content, quality.choice.text) == ("one two", tmp_path / "poem.txt")


def test_a_texts_field_and_a_protocols_stride_belong_to_the_study(tmp_path: Path) -> None:
    (tmp_path / "pages.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    table = "[ppl]\nprotocol = 'stride'\ncontext = 256\nstride = 64\ntext = 'pages.jsonl'\ntext_field = 'body'"
    quality = space(f"axes = {{seed = [0]}}\n{table}", tmp_path / "study.toml").quality
    assert quality is not None
    assert quality.settings == Settings("stride", 256, stride=64)
    assert (quality.text.content, quality.choice) == ("one\n\ntwo", TextChoice(tmp_path / "pages.jsonl", "body"))


def test_a_file_that_is_no_study_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    with pytest.raises(ConfigError, match="cannot read"):
        read_space(path)
    path.write_text("[axes\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_space(path)
    path.write_text("axes = {seed = [0, 1]}")
    assert (read_space(path).name, len(read_space(path).points)) == ("study", 2)


def test_the_example_spans_the_space_without_being_the_full_product() -> None:
    example = read_space(EXAMPLE)
    axes = [
        {getattr(point.engine, name) for point in example.points}
        for name in ("kv_dtype", "context_window_size", "prefill_chunk_size", "max_batch_size")
    ]
    assert axes == [{"f16", "int8"}, {1024, 4096}, {128, 512}, {1, 4}]
    assert {point.build.quantization for point in example.points} == {"auto", "q8f16_1", "q4f16_1"}
    assert 12 <= len(example.points) < 3 * 2**4
    assert example.quality is not None
    settings = example.quality.settings
    assert (settings.context, settings.limit) == (512, 16)
    assert example.quality.text == built_in_text()
