"""A study on a GPU: ``gpu_study.py records.jsonl`` prints its plan of memory beside what the driver counted.

And the decode speeds beside what was predicted before any was measured.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIB = 1 << 20
DECODE = "decode_tokens_per_s"
AXES = ("quantization", "kv_dtype", "context_window_size", "max_batch_size")


def rows(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "| weights | KV | context | batch | plan MiB | taken MiB | off by MiB | decode tokens/s | predicted |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for record in records:
        if "peak_device_bytes" in record["metrics"]:
            plan, taken = record["predicted"]["total_bytes"], record["metrics"]["peak_device_bytes"]
            point = " | ".join(f"{record['parameters'][name]}" for name in AXES)
            memory = f"{plan / MIB:,.0f} | {taken / MIB:,.0f} | {(taken - plan) / MIB:+.0f}"
            decode = " | ".join(f"{record[of][DECODE]:,.0f}" for of in ("metrics", "predicted"))
            yield f"| {point} | {memory} | {decode} |"


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines() if line]
    print(*rows(records), sep="\n")
    print(*(f"{count} {status}" for status, count in Counter(each["status"] for each in records).items()), sep=", ")
    print(*{each["reason"][:200] for each in records if each["reason"]}, sep="\n")


if __name__ == "__main__":
    main()
