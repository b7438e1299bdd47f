"""Phi-3 and Phi-4 (Abdin et al. 2024, arXiv 2404.14219): Llama that rotates a part of each head, with longrope."""

from kvscape.models.llama import LlamaForCausalLM


class Phi3ForCausalLM(LlamaForCausalLM):
    pass
