"""Bench: one design point, measured."""

from kvscape.bench.measure import measure
from kvscape.bench.predict import predict
from kvscape.bench.probe import measure_rates

__all__ = ["measure", "measure_rates", "predict"]
