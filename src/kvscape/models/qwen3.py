"""Qwen3, its dense models (arXiv 2505.09388): Llama that normalizes each head of queries and keys."""

from kvscape.models.decoder import CausalLM
from kvscape.models.llama import LlamaDecoderLayer


class Qwen3DecoderLayer(LlamaDecoderLayer):
    head_norms = True


class Qwen3ForCausalLM(CausalLM):
    layer = Qwen3DecoderLayer
