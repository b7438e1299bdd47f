"""A study's memory on a GPU: ``gpu_memory.py records.jsonl`` prints the plan beside what the driver counted."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIB = 1 << 20
AXES = ("quantization", "kv_dtype", "context_window_size", "max_batch_size")


def rows(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "| weights | KV | context | batch | plan MiB | taken MiB | off by MiB |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for record in records:
        if "peak_device_bytes" in record["metrics"]:
            plan, taken = record["predicted"]["total_bytes"], record["metrics"]["peak_device_bytes"]
            point = " | ".join(f"{record['parameters'][name]}" for name in AXES)
            yield f"| {point} | {plan / MIB:,.0f} | {taken / MIB:,.0f} | {(taken - plan) / MIB:+.0f} |"


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines() if line]
    print(*rows(records), sep="\n")
    print(*(f"{count} {status}" for status, count in Counter(each["status"] for each in records).items()), sep=", ")
    print(*{each["reason"][:200] for each in records if each["reason"]}, sep="\n")


if __name__ == "__main__":
    main()
