"""Bench: one design point, measured."""

from kvscape.bench.measure import measure
from kvscape.bench.predict import predict
from kvscape.bench.probe import measure_rates
from kvscape.bench.turn import WAITING, turn

__all__ = ["WAITING", "measure", "measure_rates", "predict", "turn"]
