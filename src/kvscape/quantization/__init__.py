"""Formats of weights and of the KV cache: what codes mean, in plain numpy. Kernels are tested against this package."""
