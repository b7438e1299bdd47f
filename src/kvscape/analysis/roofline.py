"""What a machine's two limits, memory and arithmetic, allow a model: the roofline (Williams et al. 2009)."""

from dataclasses import dataclass

from kvscape.analysis.memory import Memory
from kvscape.config import EngineConfig, ModelConfig, Workload

# Kernels of a layer and around the layers, about: how many exactly is for a fit to find out.
_LAYER_CALLS, _OTHER_CALLS = 10, 8


@dataclass(frozen=True)
class DeviceRates:
    """Measured limits of a device with the threads in use; one multiply-add is two operations.

    ``call_s`` is the least time of a kernel, ``token_s`` the engine's own for a sequence of a step, where they count.
    """

    memory_bytes_per_s: float
    operations_per_s: float
    call_s: float = 0.0
    token_s: float = 0.0


@dataclass(frozen=True)
class Speed:
    """Upper limits of speed and lower limits of time; ``decode_tokens_per_s`` is the sum over the batch."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    ttft_s: float
    tpot_s: float
    e2e_s: float


def layer_parameters(model: ModelConfig) -> int:
    """Weights of all layers' matrices."""
    heads = model.num_attention_heads + 2 * model.num_key_value_heads
    attention = model.hidden_size * model.head_dim * (heads + model.num_attention_heads)
    return model.num_hidden_layers * (attention + 3 * model.hidden_size * model.intermediate_size)


def head_parameters(model: ModelConfig) -> int:
    """Weights of the matrix that gives the logits."""
    return model.hidden_size * model.vocab_size


def attention_operations(model: ModelConfig, kv_tokens: float) -> float:
    """Operations of one query token that sees ``kv_tokens`` keys and values, in all layers."""
    return 4.0 * model.num_hidden_layers * model.num_attention_heads * model.head_dim * kv_tokens


def step_weights_bytes(model: ModelConfig, weights_bytes: int) -> float:
    """Weight bytes that one step reads: all of them, less an embedding that is not the head as well."""
    read = layer_parameters(model) + head_parameters(model)
    stored = read if model.tie_word_embeddings else read + head_parameters(model)
    return weights_bytes * read / stored


def step_calls(model: ModelConfig) -> int:
    """Kernels that a step calls."""
    return _LAYER_CALLS * model.num_hidden_layers + _OTHER_CALLS


def predict_step(
    model: ModelConfig, memory: Memory, rates: DeviceRates, tokens: int, logit_rows: int, kv_tokens: float
) -> float:
    """Seconds of one step of ``tokens`` tokens that each see ``kv_tokens`` keys; ``logit_rows`` is also the sequences.

    The slower of reading weights and cache once, and of computing; besides what each kernel and
    the host take at least.
    """
    read = step_weights_bytes(model, memory.weights_bytes) + memory.kv_bytes_per_token * kv_tokens * logit_rows
    operations = 2.0 * (layer_parameters(model) * tokens + head_parameters(model) * logit_rows)
    operations += attention_operations(model, kv_tokens) * tokens
    work_s = max(read / rates.memory_bytes_per_s, operations / rates.operations_per_s)
    return step_calls(model) * rates.call_s + logit_rows * rates.token_s + work_s


def predict_speed(
    model: ModelConfig, memory: Memory, engine: EngineConfig, workload: Workload, rates: DeviceRates
) -> Speed:
    """Predict equal prompts that run together, prefilled chunk by chunk, then decoded.

    All requests arrive at once and are prefilled in turn; ``ttft_s`` is the mean over the streams.
    """
    prompt, output = workload.prompt_tokens, workload.max_tokens
    batch = min(workload.num_requests or engine.max_batch_size, engine.max_batch_size)
    chunks = [-(-stream * prompt // engine.prefill_chunk_size) for stream in range(1, batch + 1)]
    chunk_s = predict_step(model, memory, rates, -(-batch * prompt // chunks[-1]), 1, prompt / 2)
    tpot_s = predict_step(model, memory, rates, batch, batch, prompt + output / 2)
    first_s = chunk_s * sum(chunks) / batch
    return Speed(
        prefill_tokens_per_s=batch * prompt / (chunks[-1] * chunk_s),
        decode_tokens_per_s=batch / tpot_s,
        ttft_s=first_s,
        tpot_s=tpot_s,
        e2e_s=first_s + (output - 1) * tpot_s,
    )
