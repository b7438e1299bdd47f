"""Gemma 3's text models (Gemma Team 2025, arXiv 2503.19786): Gemma 2 that normalizes each head of queries and keys.

Local layers have a RoPE base of their own; there is no soft cap in attention.
"""

from kvscape.models.gemma2 import Gemma2DecoderLayer, Gemma2ForCausalLM


class Gemma3DecoderLayer(Gemma2DecoderLayer):
    head_norms = True


class Gemma3ForCausalLM(Gemma2ForCausalLM):
    layer = Gemma3DecoderLayer
