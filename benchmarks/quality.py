"""The tables of docs/quality.md: ``python benchmarks/quality.py wiki.test.raw [--tables weights protocols]``.

weights: perplexity, KL divergence and agreement by quantization, plain and calibrated, and KV precision. protocols: one
model under every protocol. A calibrated model is made where it is not there yet, and says how long that took.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvscape.config.point import DEFAULT_MODEL

WEIGHTS: tuple[tuple[str, str | None, str | None], ...] = (
    ("q0f32", None, None),
    ("q8f16_1", None, None),
    ("q4af16_1", "q8f16_1", None),
    ("q4f16_1", None, None),
    ("q4f16_1", "q8f16_1", None),
    ("q4f16_1", "q8f16_1", "self"),
    ("q3f16_1", None, None),
    ("q3f16_1", None, "self"),
    ("q4f16_1", "q8f16_1", "unscored"),
)
"""Quantization, the embedding's where it is another, and the text that the rounding was calibrated on."""
KV_DTYPES = ("f16", "int8", "int4")
PROTOCOLS: tuple[tuple[str, ...], ...] = (
    ("windows", "--context", "2048", "--limit", "10"),
    ("windows", "--context", "512", "--limit", "40"),
    ("stride", "--context", "2048", "--stride", "512", "--limit", "37"),
    ("llamacpp", "--context", "512", "--limit", "40"),
    ("stream", "--context", "8192"),
    ("stream", "--context", "20480", "--sliding-window-size", "512", "--attention-sink-size", "4"),
    ("stream", "--context", "20480", "--sliding-window-size", "512", "--attention-sink-size", "0"),
    ("word", "--limit", "3"),
)
"""The text's first 20,480 tokens; documents of about as many; without a window no more than the model's context."""
SCORED_TOKENS = 20 * 512


def kvscape(*arguments: object) -> dict[str, Any]:
    """Run a command with ``--json``."""
    command = [sys.executable, "-m", "kvscape", *map(str, arguments), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def unscored(text: Path, folder: Path) -> Path:
    """The part of the text behind the tokens that the table scores, as a file."""
    from kvscape.config import BuildConfig
    from kvscape.llm.build import find_artifact
    from kvscape.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_file(find_artifact(BuildConfig(DEFAULT_MODEL)).tokenizer)
    path = folder / "unscored.txt"
    path.write_text(tokenizer.decode(tokenizer.encode(text.read_text())[2 * SCORED_TOKENS :]))
    return path


def weights_table(text: Path, folder: Path, kv_dtypes: Sequence[str]) -> None:
    scored = ("--protocol", "llamacpp", "--limit", 20, "--text", text)
    reference, rest = folder / "reference", unscored(text, folder)
    kvscape("ppl", "--quantization", "q0f32", "--kv-dtype", "f32", *scored, "--save-reference", reference)
    print("| Weights | Embedding | Calibrated on | Bits a weight | KV | PPL | KL, nats | Same likeliest token |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for quantization, embedding, calibration in WEIGHTS:
        build: list[object] = ["--quantization", quantization]
        build += [] if embedding is None else ["--embedding-quantization", embedding]
        build += [] if calibration is None else ["--calibrate", rest if calibration == "unscored" else calibration]
        start = time.perf_counter()
        bits = kvscape("convert", *build)["bits_per_weight"]
        print(f"{build}: {time.perf_counter() - start:.0f} s to convert", file=sys.stderr)
        for kv_dtype in kv_dtypes:
            found = kvscape("ppl", *build, "--kv-dtype", kv_dtype, *scored, "--reference", reference)
            told = found["divergence"]
            print(
                f"| {quantization} | {embedding or 'same'} | {calibration or ''} | {bits:.2f} | {kv_dtype} "
                f"| {found['perplexity']:.2f} ± {found['standard_error']:.2f} "
                f"| {told['mean_kl_nats']:.4f} ± {told['mean_kl_standard_error_nats']:.4f} "
                f"| {told['top1_agreement']:.1%} |",
                flush=True,
            )


def protocols_table(text: Path) -> None:
    print("| Protocol | PPL | of a | Tokens scored | Bits a byte |\n| --- | --- | --- | --- | --- |")
    for protocol in PROTOCOLS:
        found = kvscape("ppl", "--text", text, "--protocol", *protocol)
        print(
            f"| `{' '.join(protocol)}` | {found['perplexity']:.2f} ± {found['standard_error']:.2f} | {found['unit']} "
            f"| {found['tokens_scored']:,} | {found['bits_per_byte']:.4f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="WikiText-2's raw test file")
    parser.add_argument("--tables", nargs="+", default=["weights", "protocols"], choices=["weights", "protocols"])
    parser.add_argument("--kv-dtype", nargs="+", default=KV_DTYPES)
    arguments = parser.parse_args()
    if "weights" in arguments.tables:
        with tempfile.TemporaryDirectory() as folder:
            weights_table(arguments.text, Path(folder), arguments.kv_dtype)
    if "protocols" in arguments.tables:
        protocols_table(arguments.text)


if __name__ == "__main__":
    main()
