"""What all architectures share: embedding, layers one after the other, a last norm, logits."""

from typing import Any, ClassVar

from tvm.relax.frontend import nn

from kvscape.config import KVPrecision, ModelConfig
from kvscape.models.attention import Place, rope_table
from kvscape.models.layers import Embedding, Linear, RMSNorm, Weights, scaled, soft_capped
from kvscape.models.ops import Tensor, call, placeholder
from kvscape.models.rope import Rotary, rotary
from kvscape.models.step import Cache, Step


class Decoder(nn.Module):  # type: ignore[misc]
    def __init__(self, config: ModelConfig, weights: Weights, precision: KVPrecision, causal: "type[CausalLM]") -> None:
        super().__init__()
        self.config = config
        self.embedding_scale = causal.embedding_scale(config)
        self.embed_tokens = Embedding(weights, "model.embed_tokens", config.vocab_size, config.hidden_size)
        names = [f"model.layers.{i}" for i in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList([causal.layer(config, weights, name, precision) for name in names])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, step: Step) -> Tensor:
        """Return the normalized hidden states of the rows whose logits are wanted."""
        places = self._places(step)
        residual, delta = self._embedded(step), None
        for index, layer in enumerate(self.layers):
            if delta is None:
                x = layer.input_layernorm(residual)
            else:
                x, residual = layer.input_layernorm.add(delta, residual)
            delta, residual = layer(x, residual, step, places[index])
        normed, _ = self.norm.add(_rows(delta, step), _rows(residual, step))
        return normed

    def _embedded(self, step: Step) -> Tensor:
        x = self.embed_tokens(step.token_ids)
        return x if self.embedding_scale == 1 else scaled(x, self.embedding_scale)

    def _places(self, step: Step) -> list[Place]:
        """Where each layer keeps its keys and values; groups that are rotated alike have one table."""
        groups = self.config.layer_groups
        rotaries = [rotary(self.config, group) for group in groups]
        ropes = {each: self._rope(each, step.positions, step) for each in dict.fromkeys(rotaries)}
        places: dict[int, Place] = {}
        for group, turned, cache in zip(groups, rotaries, step.caches, strict=True):
            sink_rope = self._rope(turned, cache.sink_positions, step)
            places |= {layer: Place(cache, i, ropes[turned], sink_rope) for i, layer in enumerate(group.layers)}
        return [places[layer] for layer in range(self.config.num_hidden_layers)]

    def _rope(self, turned: Rotary, positions: Tensor, step: Step) -> Tensor:
        return rope_table(turned, positions, step.seen)


class CausalLM(nn.Module):  # type: ignore[misc]
    """``forward`` gives the wanted rows' logits and the changed pools and tails.

    An architecture names its ``layer``: a module made from (config, weights, name, precision) that has an
    ``input_layernorm`` and turns (normalized input, residual, step, place) into what is to be added, and the residual.
    """

    layer: ClassVar[type[Any]]
    scales_embedding: ClassVar[bool] = False
    """Whether the embedding is multiplied by the root of its size."""

    @classmethod
    def embedding_scale(cls, config: ModelConfig) -> float:
        """What rows of the embedding are multiplied by."""
        return float(config.hidden_size**0.5) if cls.scales_embedding else 1.0

    def __init__(self, config: ModelConfig, weights: Weights, precision: KVPrecision) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config, weights, precision, type(self))
        if not config.tie_word_embeddings:
            self.lm_head = Linear(weights, "lm_head", config.vocab_size, config.hidden_size)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        sequences: Tensor,
        tiles: Tensor,
        pieces: Tensor,
        logit_rows: Tensor,
        slots: Any,
        page_tables: Any,
        windows: Any,
        sink_positions: Any,
        pools: Any,
        tails: Any,
        seen: Tensor,
    ) -> Any:
        caches = list(map(Cache, pools, tails, slots, page_tables, windows, sink_positions))
        hidden = self.model(Step(token_ids, positions, sequences, tiles, pieces, logit_rows, caches, seen))
        return self._logits(hidden), tuple(cache.pool for cache in caches), tuple(cache.tails for cache in caches)

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.model.embed_tokens.logits if self.config.tie_word_embeddings else self.lm_head
        cap = self.config.final_logit_softcapping
        return soft_capped(head(hidden), float(cap)) if cap else head(hidden)


def _rows(x: Tensor, step: Step) -> Tensor:
    return call("take_rows", [x, step.logit_rows], placeholder([step.logit_rows.shape[0], x.shape[1]]))
