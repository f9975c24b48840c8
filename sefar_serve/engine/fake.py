"""An engine without a model, for tests of everything around one and for trying out a client.

Its answers depend on the inputs alone, so a test can predict them: the mean red level of the frames, from 0 to 255,
selects the class. A model that sees only joints takes their mean visibility, from 0 to 1, instead. If its description
says that it measures familiarity, that is the same level on [0, 1]: nothing is less familiar than black.
"""

from __future__ import annotations

import asyncio

import numpy as np

from sefar_serve.engine.base import Inputs, Outputs, Prediction, check_inputs, check_name
from sefar_serve.engine.errors import EngineUnavailableError
from sefar_serve.metadata import FRAMES, POSES, ModelMetadata

FAKE_METADATA = ModelMetadata(
    name="fake",
    version="0",
    dataset="none",
    sample_frames=(2, 2, 4),
    resize=32,
    size=32,
    labels=("salto forward tucked", "salto backward tucked", "giant circle forward"),
    attributes=({"direction": "forward"}, {"direction": "backward"}, {"direction": "forward"}),
    opposites=(1, 0, None),
    embedding_dim=8,
    token_dim=4,
)


class FakeEngine:
    """Answers at once, or after `delay`, or with `failure`. See `sefar_serve.engine.base.Engine`.

    Args:
        metadata: what it pretends to serve.
        delay: seconds an inference takes.
        failure: raised by every inference and health check instead of an answer.
    """

    def __init__(
        self,
        metadata: ModelMetadata = FAKE_METADATA,
        *,
        delay: float = 0.0,
        failure: Exception | None = None,
    ) -> None:
        self._metadata = metadata
        self.delay = delay
        self.failure = failure
        self.started = False
        self.calls = 0
        self.running = 0

    @property
    def metadata(self) -> ModelMetadata:
        """What it pretends to serve."""
        return self._metadata

    @property
    def models(self) -> tuple[FakeEngine, ...]:
        """Only this engine."""
        return (self,)

    def model(self, name: str | None) -> FakeEngine:
        """This engine, if the name is its name."""
        check_name(name, self._metadata)
        return self

    @property
    def queue_depth(self) -> int:
        """Number of running inferences; there is no queue."""
        return self.running

    async def start(self) -> None:
        """Become ready."""
        self.started = True

    async def close(self) -> None:
        """Stop being ready."""
        self.started = False

    async def infer(self, inputs: Inputs) -> Prediction:
        """Answer from the mean red level or the mean visibility of the clip."""
        await self.check()
        check_inputs(inputs, self._metadata)
        self.calls += 1
        self.running += 1
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.running -= 1
        meta = self._metadata
        classes = len(meta.labels)
        share = inputs[FRAMES][..., 0].mean() / 256 if meta.sees_frames else inputs[POSES][..., 3].mean()
        chosen = min(int(share * classes), classes - 1)
        logits = np.zeros(classes, np.float32)
        logits[chosen] = 5.0
        outputs = Outputs(
            logits=logits,
            embedding=np.full(meta.embedding_dim, chosen, np.float32),
            tokens=np.full((len(meta.sample_frames), meta.token_dim), chosen, np.float32),
            mc_logits=np.repeat(logits[None], meta.mc_samples, axis=0),
            familiarity=None if meta.familiarity is None else np.asarray(share, np.float32),
        )
        return Prediction(outputs, meta.version, queue_seconds=0.0, inference_seconds=self.delay, batch_size=1)

    async def check(self) -> None:
        """Raise `failure` if there is one."""
        if self.failure is not None:
            raise self.failure
        if not self.started:
            raise EngineUnavailableError("the engine is not running")
