from dataclasses import replace
from pathlib import Path

from kvscape.config import DesignPoint, EngineConfig
from kvscape.quality import Settings, Text, TextChoice
from kvscape.study.flags import bench_arguments, compile_arguments, flags, ppl_arguments, shipping_commands
from kvscape.study.space import Quality

OFF = replace(DesignPoint(), engine=EngineConfig(prefix_cache=False))


def test_values_switches_and_what_is_not_set() -> None:
    chosen = [("page_size", 32), ("prefix_cache", False), ("on", True), ("threads", None), ("seed", 0)]
    assert flags(chosen) == ["--page-size", "32", "--no-prefix-cache", "--on", "--seed", "0"]


def test_a_point_says_whether_it_has_a_prefix_cache_and_its_perplexity_does_not_care() -> None:
    quality = Quality(Settings("windows", 512, 16), Text("text", "words"))
    assert "--prefix-cache" in bench_arguments(DesignPoint()) and "--no-prefix-cache" in bench_arguments(OFF)
    assert ppl_arguments(OFF, quality) == ppl_arguments(DesignPoint(), quality)


def test_a_text_and_its_protocol_become_flags() -> None:
    windows = ppl_arguments(DesignPoint(), Quality(Settings("windows"), Text("text", "words")))
    assert windows[-4:] == ["--protocol", "windows", "--context", "2048"]
    choice = TextChoice(dataset="wikitext2", split="validation")
    chosen = ppl_arguments(DesignPoint(), Quality(Settings("stride", 256, stride=64), Text("text", "words"), choice))
    assert chosen[-10:] == [
        "--protocol", "stride", "--context", "256", "--stride", "64", "--dataset", "wikitext2", "--split", "validation",
    ]  # fmt: skip
    choice = TextChoice(Path("pages.jsonl"), "body")
    chosen = ppl_arguments(DesignPoint(), Quality(Settings("windows"), Text("text", "words"), choice))
    assert chosen[-4:] == ["--text", "pages.jsonl", "--text-field", "body"]


def test_a_point_of_kvscape_is_compared_with_the_reference() -> None:
    quality = Quality(Settings("windows"), Text("text", "words"), reference="q0f32")
    assert ppl_arguments(DesignPoint(), quality)[-2:] == ["--reference-quantization", "q0f32"]
    assert "--reference-quantization" not in ppl_arguments(DesignPoint(subject="llamacpp"), quality)


def test_a_command_to_type_names_what_is_not_the_default() -> None:
    assert not any("prefix-cache" in command for command in shipping_commands(DesignPoint()))
    assert [command.endswith(" --no-prefix-cache") for command in shipping_commands(OFF)] == [False, True, True]


def test_a_peer_is_prepared_and_measured_under_its_own_name() -> None:
    point = DesignPoint(subject="llamacpp")
    assert compile_arguments(point)[-2:] == ["--subject", "llamacpp"]
    (command,) = shipping_commands(point)
    assert command.startswith("kvscape bench") and command.endswith("--subject llamacpp")
