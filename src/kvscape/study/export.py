"""A study's records as files that anything can read."""

import json
import math
from pathlib import Path
from typing import Any

from kvscape.files import write_text
from kvscape.results.tables import write_divergence_table, write_perplexity_table, write_record_tables
from kvscape.study.store import Store


def export_study(store: Store, study: str, folder: Path) -> list[Path]:
    """Write ``records.jsonl``, ``perplexities.jsonl`` and the seed's CSV files; return their paths."""
    records, perplexities = store.study_records(study), store.study_perplexities(study)
    paths = [_lines(folder / "records.jsonl", [record.to_json() for record in records])]
    paths += write_record_tables(records, folder)
    if perplexities:
        paths.append(_lines(folder / "perplexities.jsonl", [record.to_json() for record in perplexities]))
        paths.append(folder / f"{perplexities[0].text}_ppl_results.csv")
        write_perplexity_table(perplexities, paths[-1])
    if any(record.divergence for record in perplexities):
        paths.append(folder / f"{perplexities[0].text}_kld_results.csv")
        write_divergence_table(perplexities, paths[-1])
    return paths


def _lines(path: Path, objects: list[dict[str, Any]]) -> Path:
    write_text(path, "".join(json.dumps(_plain(entry), allow_nan=False) + "\n" for entry in objects))
    return path


def _plain(value: Any) -> Any:
    """JSON has no word for what is not a number, nor for infinity."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
