"""Qwen2 and Qwen2.5 (arXiv 2407.10671): Llama with a bias on queries, keys and values; layers may have a window."""

from kvscape.models.llama import LlamaForCausalLM


class Qwen2ForCausalLM(LlamaForCausalLM):
    pass
