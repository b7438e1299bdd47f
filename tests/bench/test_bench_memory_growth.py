"""What is predicted before anything is allocated is what the default model's process grows by."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvscape.config import BuildConfig
from kvscape.llm.build import build_artifact

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim and the peak of a program are Linux's")

SMALL = {"context_window_size": 512, "prefill_chunk_size": 256, "kv_dtype": "f16"}
LARGE = {"context_window_size": 2048, "max_batch_size": 2, "kv_dtype": "int8"}
WINDOW = {"context_window_size": 8192, "sliding_window_size": 512, "attention_sink_size": 4, "kv_dtype": "f32"}


@pytest.fixture(scope="module")
def model(default_gguf: Path, kvscape_home: Path) -> Iterator[str]:
    """The default model, built, so that the process which is measured does not compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVSCAPE_HOME", str(kvscape_home))
        build_artifact(BuildConfig(str(default_gguf)))
        yield str(default_gguf)


@pytest.mark.parametrize(("knobs", "prompt_tokens"), [(SMALL, 256), (LARGE, 512), (WINDOW, 1536)], ids=str)
def test_a_process_grows_by_what_was_predicted(model: str, knobs: dict[str, Any], prompt_tokens: int) -> None:
    """Within 3 % or 8 MB, whichever is larger; the KV cache to the byte."""
    found = run(model, json.dumps(knobs), str(prompt_tokens))
    assert found["pools"] == found["kv"]
    assert abs(found["grown"] - found["predicted"]) <= max(0.03 * found["predicted"], 8e6), found


def run(*arguments: str) -> dict[str, int]:
    script = Path(__file__).with_name("memory_growth.py")
    command = [sys.executable, str(script), *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result: dict[str, int] = json.loads(out)
    return result
