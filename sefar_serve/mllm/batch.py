"""Answers several conversations in one `generate` call of the language model, each row with its own options.

transformers generates a batch with one set of options. Here each row has its own temperature, seed, length and
stop texts, can be cancelled alone, and its text is passed on as it comes. A row's answer does not depend on the
other rows of the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from sefar_serve.language.protocol import FinishReason, GenerationOptions
from sefar_serve.language.stops import StopTexts
from sefar_serve.mllm.adapter import Adapter
from sefar_serve.mllm.prompt import Prompt


@dataclass
class Row:
    """One answer being generated.

    Attributes:
        prompt: the prompt to answer.
        options: how to generate; `max_tokens` is set.
        emit: called with each part of the text, and at the end with the reason why it ended.
        cancelled: called before each token; True ends the row.
    """

    prompt: Prompt
    options: GenerationOptions
    emit: Callable[[str, FinishReason | None], None]
    cancelled: Callable[[], bool] = lambda: False
    tokens: int = 0
    finished: bool = False
    _decoder: DecodeStream = field(default_factory=lambda: DecodeStream(skip_special_tokens=True))
    _stops: StopTexts = field(init=False)

    def __post_init__(self) -> None:
        self._stops = StopTexts(self.options.stop)

    def take(self, token: int, ends: set[int], adapter: Adapter) -> None:
        """Take the next token: pass its text on, and check whether the answer ends here."""
        if self.finished:
            return
        if self.cancelled():
            self.finished = True
            return
        self.tokens += 1
        if token in ends:
            self._finish("stop")
            return
        text = self._decoder.step(adapter.processor.tokenizer.backend_tokenizer, token)
        given, stopped = self._stops.feed(text or "")
        if given:
            self.emit(given, None)
        if stopped:
            self.finished = True
            self.emit("", "stop")
        elif self.tokens == self.options.max_tokens:
            self._finish("length")

    def close(self) -> None:
        """End the answer if it has not ended by itself."""
        if not self.finished:
            self._finish("length")

    def _finish(self, reason: FinishReason) -> None:
        self.finished = True
        self.emit(self._stops.rest(), reason)


class _Distribute(BaseStreamer):  # type: ignore[misc]
    """Passes the tokens of each step to their rows."""

    def __init__(self, rows: Sequence[Row], ends: set[int], adapter: Adapter, beat: Callable[[], None]) -> None:
        self._rows, self._ends, self._adapter, self._beat = rows, ends, adapter, beat
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if self._prompt:  # the first call repeats the prompt
            self._prompt = False
            return
        self._beat()
        for row, token in zip(self._rows, value.tolist(), strict=True):
            row.take(token, self._ends, self._adapter)

    def end(self) -> None:
        for row in self._rows:
            row.close()


class _Finished(StoppingCriteria):  # type: ignore[misc]
    """Stops the rows that are finished or cancelled."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return torch.tensor([row.finished for row in self._rows], device=input_ids.device)


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Samples rows that have a temperature, where `generate` takes the largest logit.

    The largest of logits plus Gumbel noise is distributed like a sample from their softmax. Each row has its
    own random generator, so a seed gives the same text in any batch.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = [
            (i, row.options, _random(row.options.seed)) for i, row in enumerate(rows) if row.options.temperature > 0
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self._rows:
            return scores
        scores = scores.clone()
        for i, options, generator in self._rows:
            row = scores[i : i + 1].float() / options.temperature
            if options.top_p < 1:
                row = TopPLogitsWarper(options.top_p)(input_ids[i : i + 1], row)
            uniform = torch.rand(row.shape, generator=generator).clamp_(min=1e-20)
            scores[i] = (row - uniform.log().neg().log().to(row.device))[0]
        return scores


def _random(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


@torch.inference_mode()
def generate(adapter: Adapter, rows: Sequence[Row], beat: Callable[[], None] = lambda: None) -> None:
    """Answer every row; returns when all have ended or were cancelled.

    Args:
        adapter: the model.
        rows: at least one; each gets its own text.
        beat: called at every step, as a heartbeat.
    """
    model = adapter.model
    ends = end_tokens(adapter)
    config: GenerationConfig = copy.deepcopy(model.generation_config)
    config.update(
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        max_length=None,
        max_new_tokens=max(row.options.max_tokens or 1 for row in rows),
        eos_token_id=sorted(ends),
        pad_token_id=adapter.processor.tokenizer.pad_token_id,
        return_dict_in_generate=False,
    )
    model.generate(
        **batched(adapter, [row.prompt for row in rows]),
        generation_config=config,
        streamer=_Distribute(rows, ends, adapter, beat),
        stopping_criteria=StoppingCriteriaList([_Finished(rows)]),
        logits_processor=LogitsProcessorList([_Draw(rows)]),
    )


@torch.inference_mode()
def score(adapter: Adapter, prompt: Prompt, options: Sequence[list[int]]) -> list[float]:
    """Sum of the log-probabilities of each option's tokens after a prompt.

    Args:
        adapter: the model.
        prompt: the conversation.
        options: token ids of each option, including the end token.
    """
    rows = [prompt.followed_by(option) for option in options]
    longest = max(map(len, options))
    logits = adapter.model(**batched(adapter, rows), logits_to_keep=longest + 1).logits.float()
    # Padding is on the left: the last tokens of a row are its option, and their logits are one position earlier.
    log_probabilities = logits.log_softmax(dim=-1)[:, :-1]
    sums = []
    for row, option in zip(log_probabilities, options, strict=True):
        tokens = torch.tensor(option, device=row.device)
        sums.append(float(row[longest - len(option) :].gather(1, tokens[:, None]).sum()))
    return sums


def end_tokens(adapter: Adapter) -> set[int]:
    """Ids that end an answer: the tokenizer's, and those of the model's own generation settings."""
    of_model = adapter.model.generation_config.eos_token_id
    several = of_model if isinstance(of_model, list) else [of_model]
    return {int(i) for i in [*several, adapter.processor.tokenizer.eos_token_id] if i is not None}


def batched(adapter: Adapter, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Prompts padded on the left to one length, and the clips of all of them in reading order."""
    device = adapter.model.device
    batch = adapter.processor.tokenizer.pad({"input_ids": [prompt.ids for prompt in prompts]}, return_tensors="pt")
    inputs = {"input_ids": batch["input_ids"].to(device), "attention_mask": batch["attention_mask"].to(device)}
    for name in ("sefar_embedding", "sefar_tokens"):
        clips = [values for prompt in prompts if (values := getattr(prompt, name)) is not None]
        if clips:
            inputs[name] = torch.cat(clips).to(device)
    return inputs
