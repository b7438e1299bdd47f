"""Mistral 7B (Jiang et al. 2023, arXiv 2310.06825): Llama, whose layers may all see a sliding window only."""

from kvscape.models.llama import LlamaForCausalLM


class MistralForCausalLM(LlamaForCausalLM):
    pass
