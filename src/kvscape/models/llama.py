"""Llama (Touvron et al. 2023, arXiv 2302.13971) to Llama 3.2, and what has its architecture: SmolLM2, TinyLlama."""

from typing import ClassVar

from tvm.relax.frontend import nn

from kvscape.config import KVPrecision, ModelConfig
from kvscape.models.attention import Attention, Place
from kvscape.models.decoder import CausalLM
from kvscape.models.layers import GatedMLP, RMSNorm, Weights
from kvscape.models.ops import Tensor
from kvscape.models.step import Step


class LlamaDecoderLayer(nn.Module):  # type: ignore[misc]
    """Attention and a gated MLP, each behind a norm."""

    head_norms: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, weights: Weights, name: str, precision: KVPrecision) -> None:
        super().__init__()
        self.self_attn = Attention(config, weights, f"{name}.self_attn", precision, self.head_norms)
        self.mlp = GatedMLP(config, weights, f"{name}.mlp")
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, residual: Tensor, step: Step, place: Place) -> tuple[Tensor, Tensor]:
        x, residual = self.post_attention_layernorm.add(self.self_attn(x, step, place), residual)
        return self.mlp(x), residual


class LlamaForCausalLM(CausalLM):
    layer = LlamaDecoderLayer
