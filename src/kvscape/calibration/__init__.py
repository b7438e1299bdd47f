"""Calibration: round weights so that products of the inputs that a text gives change least."""
