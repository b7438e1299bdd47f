"""Gemma 2 (Gemma Team 2024, arXiv 2408.00118): norms before and behind attention and MLP, soft caps, local layers."""

from typing import ClassVar

from tvm.relax.frontend import nn

from kvscape.config import KVPrecision, ModelConfig
from kvscape.models.attention import Attention, Place
from kvscape.models.decoder import CausalLM
from kvscape.models.layers import GatedMLP, RMSNorm, Weights
from kvscape.models.ops import Tensor
from kvscape.models.step import Step


class Gemma2DecoderLayer(nn.Module):  # type: ignore[misc]
    """Attention and a gated MLP, each between two norms, whose weights are stored as what multiplies."""

    head_norms: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, weights: Weights, name: str, precision: KVPrecision) -> None:
        super().__init__()
        self.self_attn = Attention(config, weights, f"{name}.self_attn", precision, self.head_norms)
        self.mlp = GatedMLP(config, weights, f"{name}.mlp")
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.pre_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, residual: Tensor, step: Step, place: Place) -> tuple[Tensor, Tensor]:
        attended = self.post_attention_layernorm(self.self_attn(x, step, place))
        x, residual = self.pre_feedforward_layernorm.add(attended, residual)
        return self.post_feedforward_layernorm(self.mlp(x)), residual


class Gemma2ForCausalLM(CausalLM):
    layer = Gemma2DecoderLayer
    scales_embedding = True
