"""Predict a whole space, calibrating the machine and making builds where that was not done."""

from pathlib import Path

from kvscape.analysis.device import Device
from kvscape.config import DesignPoint
from kvscape.study.builds import first_of_each, known_builds
from kvscape.study.device import find_device
from kvscape.study.executor import ProcessExecutor
from kvscape.study.live import LiveView
from kvscape.study.predictions import predict_points, write_predictions
from kvscape.study.space import Space
from kvscape.study.store import Store


def predict_space(space: Space, store: Store, quiet: bool = False) -> Path:
    """Predict every point from what the store has measured of the space; return the file, beside the store."""
    records, perplexities = store.study_records(space.name), store.study_perplexities(space.name)
    measured = [DesignPoint.from_flat(record.parameters) for record in records]
    with LiveView(quiet=quiet, transient=True) as progress:
        progress.start(len(first_of_each((*space.points, *measured))))
        builds = known_builds((*space.points, *measured), ProcessExecutor(space.timeout_s), progress, store)
    predictions = predict_points(space.points, records, perplexities, _device, builds.facts)
    return write_predictions(store.path.parent, space.name, predictions)


def _device(name: str) -> Device:
    return find_device(device=name)
