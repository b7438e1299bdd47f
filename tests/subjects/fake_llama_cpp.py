"""Stands for the module ``llama_cpp``: a model whose next token depends on the sum of all tokens before it."""

import ctypes
import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from kvscape.subjects.llamacpp.memory import kv_bytes_per_token
from tiny import TinyShape

VOCAB = TinyShape().vocab_size
TABLE = np.random.default_rng(0).standard_normal((VOCAB, VOCAB)).astype(np.float32)
_NAMES = {0: "f32", 1: "f16", 8: "int8", 2: "int4"}


class QuantizeParams(ctypes.Structure):
    _fields_ = (
        ("nthread", ctypes.c_int), ("ftype", ctypes.c_int), ("allow_requantize", ctypes.c_bool),
        ("token_embedding_type", ctypes.c_int), ("output_tensor_type", ctypes.c_int),
    )  # fmt: skip


class FakeLlamaCpp:
    """``said`` notes what was asked for; ``model`` is the shape that the KV cache's bytes follow."""

    llama_log_callback = staticmethod(lambda function: function)
    llama_backend_init = staticmethod(lambda: None)
    llama_print_system_info = staticmethod(lambda: b"CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | ")
    llama_model_quantize_default_params = QuantizeParams
    llama_model_default_params = SimpleNamespace
    llama_context_default_params = SimpleNamespace
    llama_model_size = staticmethod(lambda model: 1000)
    llama_model_n_params = staticmethod(lambda model: 1600)
    llama_model_get_vocab = staticmethod(lambda model: "vocab")
    llama_vocab_n_tokens = staticmethod(lambda vocab: VOCAB)
    llama_vocab_get_attr = staticmethod(lambda vocab, token: 8 if token < 3 else 4)
    llama_vocab_bos = staticmethod(lambda vocab: 1)

    def __init__(self, model: Any) -> None:
        self.model = model
        self.quantized: list[tuple[int, int]] = []
        self.contexts: list[SimpleNamespace] = []
        self.freed: list[str] = []
        self.adds_bos, self.loads, self.kv_error_mib = False, True, 0.0
        self._log: Callable[[int, bytes, Any], None] = lambda level, text, data: None

    def llama_log_set(self, callback: Callable[[int, bytes, Any], None], data: Any) -> None:
        self._log = callback

    def llama_model_quantize(self, source: bytes, path: bytes, params: Any) -> int:
        self.quantized.append((params._obj.ftype, params._obj.token_embedding_type))
        shutil.copyfile(source, path)
        return 0

    def llama_model_load_from_file(self, path: bytes, params: Any) -> Any:
        if not self.loads:
            self._log(4, b"no such tensor\n", None)
        return path if self.loads else None

    def llama_init_from_model(self, model: Any, params: SimpleNamespace) -> Any:
        self._log(1, b"llama_context: CPU compute buffer size = 9999.00 MiB\n", None)  # debugging is not read
        mib = self._kv_bytes(params) / 2**20 + self.kv_error_mib
        self._log(2, b"llama_context:        CPU  output buffer size =     0.25 MiB\n", None)
        self._log(2, f"llama_kv_cache:        CPU KV buffer size = {mib:8.2f} MiB\n".encode(), None)
        self._log(2, b"sched_reserve:        CPU compute buffer size =     1.50 MiB\n", None)
        params.cache, params.logits = {}, np.empty((0, VOCAB), np.float32)
        self.contexts.append(params)
        return params

    def _kv_bytes(self, params: Any) -> int:
        assert not params.kv_unified
        share = -(-params.n_ctx // params.n_seq_max // 256) * 256
        name = f"k={_NAMES[params.type_k]},v={_NAMES[params.type_v]}"
        return int(share * params.n_seq_max * kv_bytes_per_token(self.model, name))

    def llama_get_memory(self, context: Any) -> Any:
        return context

    def llama_memory_clear(self, context: Any, data: bool) -> None:
        context.cache.clear()

    def llama_batch_init(self, tokens: int, embd: int, sequences: int) -> SimpleNamespace:
        empty = {name: [0] * tokens for name in ("token", "pos", "n_seq_id", "logits")}
        return SimpleNamespace(n_tokens=0, seq_id=[[0] for _ in range(tokens)], **empty)

    def llama_decode(self, context: Any, batch: Any) -> int:
        rows = []
        for index in range(batch.n_tokens):
            held = context.cache.setdefault(batch.seq_id[index][0], [])
            assert batch.pos[index] == len(held) and batch.n_seq_id[index] == 1
            held.append(batch.token[index])
            if batch.logits[index]:
                rows.append(TABLE[sum(held) % VOCAB])
        context.logits = np.array(rows, np.float32).reshape(-1, VOCAB)
        wrong = len(rows) > context.n_outputs_max or len(context.cache) > context.n_seq_max
        return int(wrong or batch.n_tokens > context.n_batch)

    def llama_get_logits(self, context: Any) -> Any:
        return context.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def llama_vocab_get_add_bos(self, vocab: Any) -> bool:
        return self.adds_bos

    def llama_tokenize(self, vocab: Any, text: bytes, size: int, out: Any, room: int, add: bool, special: bool) -> int:
        assert not add and not special
        out[: len(text)] = [3 + byte for byte in text]
        return len(text)

    def llama_detokenize(self, vocab: Any, tokens: Any, count: int, out: Any, room: int, *_: bool) -> int:
        text = bytes(token - 3 for token in tokens)
        if len(text) > room:
            return -len(text)
        out[: len(text)] = text
        return len(text)

    def llama_token_to_piece(self, vocab: Any, token: int, out: Any, room: int, strip: int, special: bool) -> int:
        text = bytes([token - 3]) * (40 if token == 253 else 1) if token >= 3 else b""
        if len(text) > room:
            return -len(text)
        out[: len(text)] = text
        return len(text)

    def llama_batch_free(self, batch: Any) -> None:
        self.freed.append("batch")

    def llama_free(self, context: Any) -> None:
        self.freed.append("context")

    def llama_model_free(self, model: Any) -> None:
        self.freed.append("model")
