"""``LLM``: one model, loaded and ready."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from kvscape.analysis.adapters import find_adapter
from kvscape.analysis.cpu import usable_threads
from kvscape.analysis.fit import check_fit
from kvscape.analysis.memory import Memory, kv_bytes_per_token, runtime_bytes
from kvscape.artifact import Artifact, LibraryMetadata
from kvscape.config import BuildConfig, EngineConfig, adapter_name, cuda_index
from kvscape.config.point import DEFAULT_MODEL
from kvscape.engine.devices.device import FloatArray
from kvscape.engine.engine import Engine
from kvscape.engine.request import Output, Request, SamplingParams
from kvscape.errors import CapacityError, ConfigError, KvscapeError
from kvscape.hub import Progress, silent
from kvscape.llm.build import Built, build_artifact
from kvscape.llm.completion import Choice, Completion
from kvscape.llm.json_guide import JsonGuides, MakeGuide
from kvscape.tokenizer import ChatTemplate, Detokenizer, Message, Tokenizer, Tool

if TYPE_CHECKING:
    from kvscape.engine.devices.check import Check
    from kvscape.engine.devices.cpu import CpuDevice
    from kvscape.engine.devices.cuda import CudaDevice
    from kvscape.engine.devices.webgpu import WebgpuDevice


class LLM:
    """A model with its engine: ``generate``, ``stream``, ``chat`` and ``score``.

    What is missing is downloaded, converted and compiled first. Engine fields that are None come from the library's
    overrides, else by default. Raises a KvscapeError for everything that cannot be had.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        quantization: str = "auto",
        embedding_quantization: str | None = None,
        activation: str = "int8",
        device: str = "cpu",
        calibrate: str | None = None,
        threads: int | None = None,
        jit: str = "on",
        model_lib: str | Path | None = None,
        context_window_size: int | None = None,
        prefill_chunk_size: int | None = None,
        max_batch_size: int | None = None,
        max_total_sequence_length: int | None = None,
        sliding_window_size: int | None = None,
        attention_sink_size: int | None = None,
        kv_dtype: str | None = None,
        page_size: int | None = None,
        prefix_cache: bool | None = None,
        mixed_chunk_size: int | None = None,
        prompt_lookup_tokens: int | None = None,
        progress: Progress = silent,
    ) -> None:
        cuda_index(device)  # before anything is compiled
        build = BuildConfig(model, quantization, embedding_quantization, activation, device, calibrate)
        library = Path(model_lib) if model_lib is not None else None
        built = build_artifact(build, jit, library, kv_dtype=kv_dtype or EngineConfig.kv_dtype, progress=progress)
        self.artifact: Artifact = built.artifact
        given = {
            "context_window_size": context_window_size,
            "prefill_chunk_size": prefill_chunk_size,
            "max_batch_size": max_batch_size,
            "max_total_sequence_length": max_total_sequence_length,
            "sliding_window_size": sliding_window_size,
            "attention_sink_size": attention_sink_size,
            "kv_dtype": kv_dtype,
            "page_size": page_size,
            "prefix_cache": prefix_cache,
            "mixed_chunk_size": mixed_chunk_size,
            "prompt_lookup_tokens": prompt_lookup_tokens,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        self._device = _open(built, device, usable_threads(threads), partial(_check_fit, device, chosen))
        config = _config(self.metadata, chosen)
        self.tokenizer = Tokenizer.from_file(self.artifact.tokenizer, self.metadata.model.bos_token_id)
        self.engine = Engine(self._device, config, lambda: Detokenizer(self.tokenizer))
        self.chat_template = _chat_template(self.artifact, self.tokenizer, self.metadata)
        self._ids = count()

    @property
    def device(self) -> "CpuDevice | CudaDevice | WebgpuDevice":
        """The device that the engine runs on."""
        return self._device

    @cached_property
    def json_guides(self) -> JsonGuides:
        """Makes guides to answers that are JSON; raise ConfigError without the package ``llguidance``."""
        model = self.metadata.model
        return JsonGuides(self.tokenizer, model.vocab_size, model.eos_token_ids)

    @property
    def metadata(self) -> LibraryMetadata:
        """What the compiled library says of itself."""
        return self._device.metadata

    @property
    def memory(self) -> Memory:
        """Bytes that are allocated now, and the scratch memory of the busiest step."""
        config, model = self.engine.config, self.metadata.model
        workspace = self.metadata.workspaces[config.kv_dtype]
        return Memory(
            weights_bytes=self._device.weights_bytes,
            kv_cache_bytes=self.engine.pools.nbytes,
            kv_bytes_per_token=kv_bytes_per_token(model, config.kv_dtype),
            workspace_bytes=workspace.nbytes(*workspace.busiest(config)) + workspace.gap_bytes,
            runtime_bytes=runtime_bytes(model, workspace),
        )

    @overload  # a str is a sequence of str too; the first that fits is taken
    def generate(  # type: ignore[overload-overlap]
        self, prompts: str, params: SamplingParams | None = None
    ) -> Completion: ...
    @overload
    def generate(self, prompts: Sequence[str], params: SamplingParams | None = None) -> list[Completion]: ...
    def generate(
        self, prompts: str | Sequence[str], params: SamplingParams | None = None
    ) -> Completion | list[Completion]:
        """Continue one text, or several at once. The prompt is taken as it is, without a chat template."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        completions = self.complete([self.tokenizer.encode(text, add_bos=True) for text in texts], params)
        return completions[0] if isinstance(prompts, str) else completions

    def chat(self, messages: Sequence[Message], params: SamplingParams | None = None) -> Completion:
        """Answer a conversation, put into the model's own chat template."""
        return self.complete([self.chat_token_ids(messages)], params)[0]

    def stream(self, prompt: str | Sequence[Message], params: SamplingParams | None = None) -> Iterator[str]:
        """Yield the answer's text as it grows; a list of messages goes through the chat template."""
        if params is not None and params.n > 1:
            raise ConfigError(f"n = {params.n}", "a stream has one answer", "use generate")
        tokens = self.tokenizer.encode(prompt, add_bos=True) if isinstance(prompt, str) else self.chat_token_ids(prompt)
        for output in self.run([tokens], params):
            if output.text:
                yield output.text

    def score(self, text: str | Sequence[int]) -> FloatArray:
        """Log-probability of each token after the first, given those before it: f32 [n - 1]."""
        return self.engine.score(self.tokenizer.encode(text, add_bos=True) if isinstance(text, str) else text)

    def complete(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | None = None, guide: MakeGuide | None = None
    ) -> list[Completion]:
        """Continue several prompts of token ids at once."""
        parts: dict[str, dict[int, list[Output]]] = {}
        for output in self.run(prompts, params, guide):
            parts.setdefault(output.request_id, {}).setdefault(output.index, []).append(output)
        answers = [_in_order(parts[request_id]) for request_id in sorted(parts)]
        return [Completion(tuple(prompt), choices) for prompt, choices in zip(prompts, answers, strict=True)]

    def run(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | None = None, guide: MakeGuide | None = None
    ) -> Iterator[Output]:
        """Yield the engine's outputs until all prompts are answered; leaving early cancels the rest.

        ``guide`` makes one for each answer, for example ``llm.json_guides.schema({...})``.
        """
        self._check_idle()
        ids = [f"{next(self._ids):08d}" for _ in prompts]
        try:
            for request_id, prompt in zip(ids, prompts, strict=True):
                self.engine.add(Request(request_id, tuple(prompt), params or SamplingParams(), guide=guide))
            while self.engine.has_work:
                for output in self.engine.step():
                    if output.error is not None:
                        raise output.error.__cause__ or output.error
                    yield output
        finally:
            for request_id in ids:
                self.engine.cancel(request_id)

    def _check_idle(self) -> None:
        if self.engine.has_work:
            raise RuntimeError("an answer is still being streamed: read it to its end, or close its iterator")

    def chat_token_ids(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> list[int]:
        """Token ids of a conversation up to where the answer begins."""
        return self.tokenizer.encode(self.chat_prompt(messages, tools), parse_special=True)

    def chat_prompt(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> str:
        """The text of ``chat_token_ids``; raise KvscapeError if the model has no chat template, or it no tools."""
        if self.chat_template is None:
            raise KvscapeError("this model has no chat template", "its file holds none", "use generate --raw")
        return self.chat_template.render(messages, tools=tools)

    def close(self) -> None:
        """Free weights and KV cache; a second time does nothing."""
        for name in ("engine", "_device"):
            self.__dict__.pop(name, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _config(metadata: LibraryMetadata, chosen: Mapping[str, Any]) -> EngineConfig:
    return EngineConfig.chosen({**metadata.overrides, **chosen}, metadata.model)


def _check_fit(
    device: str, chosen: Mapping[str, Any], metadata: LibraryMetadata, weights_bytes: int, available_bytes: int
) -> None:
    """Raise CapacityError before anything is allocated: weights that are mapped or not yet copied count."""
    config, workspaces = _config(metadata, chosen), metadata.workspaces
    try:
        check_fit(metadata.model, config, weights_bytes, workspaces, available_bytes)
    except CapacityError as error:
        raise CapacityError(f"out of memory on {device}: {error.what}", error.why, error.do) from None


def _open(built: Built, device: str, threads: int, check: "Check") -> "CpuDevice | CudaDevice | WebgpuDevice":
    """Load what was built; these modules set up TVM's runtime, which a device error need not wait for."""
    if (name := adapter_name(device)) is not None:
        from kvscape.engine.devices.webgpu import WebgpuDevice

        return WebgpuDevice(built.library, built.packed_weights, find_adapter(device, name), check)
    index = cuda_index(device)
    if index is not None:
        from kvscape.engine.devices.cuda import CudaDevice

        return CudaDevice(built.library, built.packed_weights, index, check=check)
    from kvscape.engine.devices.cpu import CpuDevice

    opened = CpuDevice(built.library, built.packed_weights, threads)
    check(opened.metadata, opened.weights_bytes, opened.available_bytes)
    return opened


def _chat_template(artifact: Artifact, tokenizer: Tokenizer, metadata: LibraryMetadata) -> ChatTemplate | None:
    if not artifact.chat_template.exists():
        return None
    model = metadata.model
    bos = tokenizer.token_text(model.bos_token_id) if model.bos_token_id is not None else ""
    eos = tokenizer.token_text(model.eos_token_ids[0]) if model.eos_token_ids else ""
    return ChatTemplate(artifact.chat_template.read_text(encoding="utf-8"), bos, eos)


def _in_order(parts: dict[int, list[Output]]) -> tuple[Choice, ...]:
    return tuple(Choice.joined(parts[index]) for index in sorted(parts))
