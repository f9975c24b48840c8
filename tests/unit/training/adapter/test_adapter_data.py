from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tiny_language_model import ELEMENTS, EMBEDDING_DIM, TOKEN_DIM, tiny_processor

from sefar_serve.language.protocol import PLACEHOLDER, ClipFeatures, Message
from sefar_serve.mllm.prompt import make_prompt, option_ids
from sefar_training.adapter.attributes import read_gymnastics
from sefar_training.adapter.config import AdapterData
from sefar_training.adapter.data import IGNORED, ClipExamples, Examples, Taught, TextExamples, collate, encode
from sefar_training.adapter.features import Features
from sefar_training.adapter.questions import parse_text
from sefar_training.adapter.sentences import CAPTION_PROMPTS
from sefar_training.data import ClassTable
from sefar_training.synthgym import CLASSES

SYNTHGYM = ClassTable(tuple(a.name for a in CLASSES), tuple(a.attributes for a in CLASSES))


def shares(**changes: object) -> AdapterData:
    return AdapterData(root=".", train="train.csv", **changes)


def some_features(count: int = 6, views: int = 2, labels: list[int] | None = None) -> Features:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(count, *shape)).astype(np.float32)

    return Features(
        tuple(f"{i}.mp4" for i in range(count)),
        np.array(labels or range(count), np.int64),
        normal(views, EMBEDDING_DIM),
        normal(views, ELEMENTS, TOKEN_DIM),
        normal(views, 36),
        normal(10, 36),
    )


def test_kinds_of_exchange_follow_the_recipe_s_shares() -> None:
    examples = Examples(SYNTHGYM, shares(questions=0.5, attributes=0.25, hard=0.0, near=0.0))
    rng = np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    for _ in range(600):
        asked = examples.draw(4, rng)
        if " A." in asked.prompt:
            kinds["question"] += 1
            _, options = parse_text(asked.prompt)
            assert asked.answer == "salto forward piked" and asked.answer in options
        elif asked.prompt in CAPTION_PROMPTS:
            kinds["caption"] += 1
            assert read_gymnastics(asked.answer) == CLASSES[4].attributes
        else:
            kinds["attribute"] += 1
            assert read_gymnastics(asked.answer).items() <= CLASSES[4].attributes.items()
    assert abs(kinds["question"] - 300) < 50 and abs(kinds["attribute"] - 150) < 45


def test_hard_training_options_are_classes_confused_on_some_clip() -> None:
    logits = np.full((2, 36), -9, np.float32)
    logits[0, [10, 1, 2, 3]] = [1, 2, 3, 4]
    logits[1, [5, 6, 7, 8]] = 1
    examples = Examples(SYNTHGYM, shares(questions=1, attributes=0, hard=1, near=0), logits)
    _, options = parse_text(examples.draw(10, np.random.default_rng(0)).prompt)
    assert set(options) == {action.name.partition(") ")[2] for action in (*CLASSES[1:4], CLASSES[10])}
    # A class that it never confuses is asked for among random ones.
    drawn = {
        option for seed in range(9) for option in parse_text(examples.draw(20, np.random.default_rng(seed)).prompt)[1]
    }
    assert len(drawn) > 12


def test_data_sets_without_attributes_are_asked_for_captions_and_labels() -> None:
    table = ClassTable(("surfing", "archery", "diving", "golf"))
    examples = Examples(table, shares(questions=0.3, attributes=0.7))
    rng = np.random.default_rng(1)
    answers = {examples.draw(1, rng).answer for _ in range(50)}
    assert answers == {
        "archery",
        *(f"{start} archery." for start in ("The clip shows", "The action is", "This is", "We see")),
    }


def test_only_the_answer_and_its_end_have_a_loss() -> None:
    processor = tiny_processor()
    seen = ClipFeatures(np.zeros(EMBEDDING_DIM, np.float32), np.zeros((ELEMENTS, TOKEN_DIM), np.float32))
    item = encode(processor, (seen, "What is it?"), "salto forward")
    learnt = item["labels"][item["labels"] != IGNORED].tolist()
    assert learnt == option_ids(processor, ["salto forward"])[0]
    assert processor.tokenizer.decode(learnt) == "salto forward<|end|>"
    # What is before it is the very prompt that serving writes.
    prompt = make_prompt(processor, [Message("user", (seen, "What is it?"))])
    assert item["input_ids"].tolist() == [*prompt.ids, *learnt]
    assert item["input_ids"].tolist().count(processor.sefar_token_id) == 1 + ELEMENTS


def test_examples_depend_on_seed_and_number_alone() -> None:
    processor = tiny_processor()
    taught = Taught(some_features(), np.arange(6), 6)

    def items(seed: int) -> list[dict[str, torch.Tensor]]:
        data = ClipExamples(Examples(SYNTHGYM, shares()), taught, processor, 12, seed)
        assert len(data) == 12
        return [data[i] for i in reversed(range(len(data)))]

    for first, second in zip(items(0), items(0), strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(
        not torch.equal(first["input_ids"], second["input_ids"])
        for first, second in zip(items(0), items(1), strict=True)
    )
    embeddings = {tuple(item["sefar_embedding"][0].tolist()) for item in items(0)}
    known = {tuple(view.tolist()) for clip in taught.features.embedding for view in clip}
    assert len(embeddings) > 3 and embeddings <= known


def test_language_stage_replaces_the_clip_by_a_sentence() -> None:
    processor = tiny_processor()
    data = TextExamples(Examples(SYNTHGYM, shares()), processor, 20, seed=0)
    for item in (data[i] for i in range(len(data))):
        text = processor.tokenizer.decode(item["input_ids"])
        assert PLACEHOLDER not in text and "sefar_embedding" not in item
        described, answer = text.partition("\n")[0], text.rpartition("<|assistant|>")[2]
        true = read_gymnastics(described)
        assert true in [action.attributes for action in CLASSES]
        assert read_gymnastics(answer).items() <= true.items()


def test_batches_are_padded_on_the_left_and_clips_stay_in_order() -> None:
    items = [
        {"input_ids": torch.tensor([5, 6]), "labels": torch.tensor([IGNORED, 6])},
        {
            "input_ids": torch.tensor([7, 8, 9]),
            "labels": torch.tensor([IGNORED, 8, 9]),
            "sefar_embedding": torch.ones(1, 2),
            "sefar_tokens": torch.ones(1, 3, 2),
        },
    ]
    batch = collate(items, pad=0)
    assert batch["input_ids"].tolist() == [[0, 5, 6], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 6], [IGNORED, 8, 9]]
    assert batch["sefar_embedding"].shape == (1, 2) and batch["sefar_tokens"].shape == (1, 3, 2)
    assert "sefar_embedding" not in collate(items[:1], pad=0)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_unlabelled_clips_are_used_if_their_pseudo_label_is_reliable(threshold: float) -> None:
    labelled, unlabelled = some_features(3), some_features(5, labels=[-1] * 5)
    mc = np.zeros((5, 10, 36), np.float32)
    mc[:3, :, [7, 8, 9]] = 20 * np.eye(3, dtype=np.float32)[:, None]
    sure = Features(unlabelled.names, unlabelled.labels, unlabelled.embedding, unlabelled.tokens, unlabelled.logits, mc)
    taught = Taught.of(labelled, sure, threshold)
    kept = {0.0: 5, 0.5: 3, 1.0: int((sure.eta >= 1.0).sum())}[threshold]
    assert taught.labelled == 3 and len(taught.labels) == len(taught.features) == 3 + kept
    assert taught.labels[:3].tolist() == [0, 1, 2]
    if kept >= 3:
        assert taught.labels[3:6].tolist() == [7, 8, 9]


def test_labels_of_the_unlabelled_list_are_ignored() -> None:
    labelled = some_features(3)
    known, unknown = some_features(5, labels=[1, 1, 1, 1, 1]), some_features(5, labels=[-1] * 5)
    assert np.array_equal(Taught.of(labelled, known, 0).labels, Taught.of(labelled, unknown, 0).labels)
    assert Taught.of(labelled, None, 0.5).labels.tolist() == [0, 1, 2]
