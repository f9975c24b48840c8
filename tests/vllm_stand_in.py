"""A server with vLLM's endpoints, fields and errors, for a tiny model of transformers.

Tensors are loaded the way vLLM's `safe_load_prompt_embeds` does, and also refused if their storage is larger than the
tensor, because the rest of it would be sent unseen.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

SENTINEL = "<prompt_embeds>"


@dataclass
class StandIn:
    """The server, and the faults that a test has set."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    port: int
    name: str = "tiny"
    root: str = "tiny"
    api_key: str | None = None
    max_model_len: int = 256
    parent: str | None = None
    prompt_embeds: bool = True
    refused_paths: set[str] = field(default_factory=set)
    ignores_embeds: bool = False
    logprobs_mode: str = "raw_logprobs"
    drops_allowed: bool = False
    pause: float = 0.0
    fail: JSONResponse | None = None
    break_after: int | None = None
    error_after: int | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    aborted: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[StandIn]:
        config = uvicorn.Config(self._app(), host="127.0.0.1", port=self.port, log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join(10)
            assert not thread.is_alive()

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.add_api_route("/v1/models", self._models, methods=["GET"])
        app.add_api_route("/v1/completions", self._endpoint, methods=["POST"])
        app.add_api_route("/v1/chat/completions", self._endpoint, methods=["POST"])
        return app

    async def _models(self, request: Request) -> Response:
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        entry = {"id": self.name, "object": "model", "root": self.root, "parent": self.parent}
        return JSONResponse({"object": "list", "data": [entry | {"max_model_len": self.max_model_len}]})

    async def _endpoint(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        if self.fail is not None:
            return self.fail
        if request.url.path in self.refused_paths:
            return refusal("not offered here", 404)
        if body["model"] != self.name:
            return refusal(f"The model `{body['model']}` does not exist.", 404)
        chat = "chat" in request.url.path
        try:
            rows = await asyncio.to_thread(self._chat_rows if chat else self._completion_rows, body)
        except ValueError as error:
            return refusal(str(error))
        if self.ignores_embeds:
            rows = rows[:1]
        if len(rows) >= self.max_model_len:
            return refusal(f"This model's maximum context length is {self.max_model_len} tokens. However, ...")
        if any(int(i) >= self.model.config.vocab_size for i in body.get("logit_bias", {})):
            return refusal("token_id(s) in logit_bias contain out-of-vocab token ids")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            ids, logprobs = await asyncio.to_thread(self._answer, rows, body)
            await asyncio.sleep(self.pause)
        finally:
            self.running -= 1
        answer = _Answer(self, body, chat, len(rows), ids, logprobs)
        if body.get("stream"):
            return StreamingResponse(answer.events(), media_type="text/event-stream")
        return JSONResponse(answer.whole())

    def _load(self, embed: str) -> Tensor:
        if not self.prompt_embeds:
            raise ValueError("You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
        file = io.BytesIO(base64.b64decode(embed, validate=True))
        tensor = torch.load(file, weights_only=True, map_location="cpu")
        if tensor.dim() != 2:
            raise ValueError(f"`prompt_embeds` must be a 2D tensor; got shape {tuple(tensor.shape)}.")
        hidden = self.model.config.hidden_size
        if tensor.shape[1] != hidden:
            raise ValueError(f"`prompt_embeds` hidden_size {tensor.shape[1]} does not match the model's {hidden}.")
        if not tensor.is_floating_point():
            raise ValueError(f"`prompt_embeds` dtype {tensor.dtype} is not a floating-point type.")
        if tensor.untyped_storage().nbytes() != tensor.nbytes:
            raise ValueError("`prompt_embeds` is a view: its whole storage was sent.")
        return tensor.to(self.model.dtype)

    def _completion_rows(self, body: dict[str, Any]) -> Tensor:
        if body.get("prompt_embeds") is None:
            raise ValueError("Either prompt or prompt_embeds must be provided and non-empty.")
        return self._load(body["prompt_embeds"])

    def _chat_rows(self, body: dict[str, Any]) -> Tensor:
        loaded: list[Tensor] = []
        messages = []
        for message in body["messages"]:
            content = message["content"]
            if not isinstance(content, str):
                assert all(part["type"] == "prompt_embeds" for part in content)
                loaded += [self._load(part["data"]) for part in content]
                content = SENTINEL * len(content)
            messages.append({"role": message["role"], "content": content})
        text = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=body.get("add_generation_prompt", True),
            continue_final_message=body.get("continue_final_message", False),
        )
        table = self.model.get_input_embeddings()
        pieces = []
        for number, piece in enumerate(text.split(SENTINEL)):
            if number:
                pieces.append(loaded[number - 1])
            ids = self.tokenizer(piece, add_special_tokens=False)["input_ids"]
            pieces.append(table(torch.tensor(ids, dtype=torch.long)).detach())
        return torch.cat(pieces)

    @torch.inference_mode()
    def _answer(self, rows: Tensor, body: dict[str, Any]) -> tuple[list[int], list[float]]:
        """Tokens, and the log-probability of each in vLLM's mode."""
        allowed = None if self.drops_allowed else body.get("allowed_token_ids")
        biases = {int(i): value for i, value in body.get("logit_bias", {}).items()}
        if body.get("seed") is not None:
            torch.manual_seed(body["seed"])
        temperature = body.get("temperature", 1.0)
        sampling = {"do_sample": True, "temperature": temperature, "top_p": body.get("top_p", 1.0), "top_k": 0}
        out = self.model.generate(
            inputs_embeds=rows[None],
            attention_mask=torch.ones(1, len(rows), dtype=torch.long),
            max_new_tokens=body["max_tokens"],
            eos_token_id=body.get("stop_token_ids") or self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            sequence_bias={(i,): float(value) for i, value in biases.items()} or None,
            prefix_allowed_tokens_fn=(lambda batch, said: allowed) if allowed else None,
            output_logits=True,
            output_scores=True,
            return_dict_in_generate=True,
            **(sampling if temperature else {"do_sample": False}),
        )
        ids = out.sequences[0].tolist()
        steps = out.logits if self.logprobs_mode == "raw_logprobs" else out.scores
        return ids, [float(step[0].log_softmax(-1)[i]) for i, step in zip(ids, steps, strict=True)]


@dataclass
class _Answer:
    server: StandIn
    body: dict[str, Any]
    chat: bool
    prompt_tokens: int
    ids: list[int]
    logprobs: list[float]

    def _pieces(self) -> tuple[list[str], str]:
        """The text of each token, and why the answer ended; stop texts are not part of it."""
        stream, pieces, ends = DecodeStream(skip_special_tokens=True), [], self.body.get("stop_token_ids", [])
        for i in self.ids:
            pieces.append(stream.step(self.server.tokenizer.backend_tokenizer, i) or "")
            text = "".join(pieces)
            found = [at for stop in self.body.get("stop", []) if (at := text.find(stop)) >= 0]
            if found:
                return [text[: min(found)]], "stop"
        return pieces, "stop" if self.ids[-1] in [*ends, self.server.tokenizer.eos_token_id] else "length"

    @property
    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": len(self.ids)}

    def _token(self, i: int) -> str:
        return f"token_id:{i}" if self.body.get("return_tokens_as_token_ids") else self.server.tokenizer.decode([i])

    def whole(self) -> dict[str, Any]:
        pieces, reason = self._pieces()
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        tokens = [self._token(i) for i in self.ids]
        if self.chat:
            choice["message"] = {"role": "assistant", "content": "".join(pieces)}
            if self.body.get("logprobs"):
                records = zip(tokens, self.logprobs, strict=True)
                choice["logprobs"] = {"content": [{"token": token, "logprob": value} for token, value in records]}
        else:
            choice["text"] = "".join(pieces)
            if self.body.get("logprobs") is not None:
                choice["logprobs"] = {"tokens": tokens, "token_logprobs": self.logprobs}
        return {"id": "1", "choices": [choice], "usage": self.usage}

    async def events(self) -> AsyncIterator[str]:
        pieces, reason = self._pieces()
        self.server.running += 1
        finished = False
        try:
            yield ": keep-alive\n\n"
            if self.chat:
                yield event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
            for number, piece in enumerate(pieces):
                if number == self.server.break_after:
                    raise ConnectionAbortedError("told to")
                if number == self.server.error_after:
                    yield event({"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}})
                    return
                await asyncio.sleep(self.server.pause)
                said = {"delta": {"content": piece}} if self.chat else {"text": piece}
                last = number == len(pieces) - 1
                yield event({"choices": [{"index": 0, **said, "finish_reason": reason if last else None}]})
            if self.body.get("stream_options", {}).get("include_usage"):
                yield event({"choices": [], "usage": self.usage})
            yield "data: [DONE]\n\n"
            finished = True
        finally:
            self.server.running -= 1
            self.server.aborted += not finished


def event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def refusal(message: str, status: int = 400) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": status}}, status)


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port
