"""Evaluate an adapter on a list of clips, always next to the classifier whose features it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sefar_serve.engine.loaded import Device
from sefar_serve.mllm.adapter import Adapter, check_encoder, load_adapter

from ..data import ClassTable
from ..evaluation.score import EvaluationError, check_labels
from .answering import AnswerMode, Speaker
from .attributes import class_attributes, option_text, reader_for
from .distractors import DIFFICULTIES, Distractors
from .features import Encoder, Features
from .measures import AdapterReport, Example, QuestionFigures, Share, caption_figures
from .questions import LETTERS, Question, normalised, read_questions
from .sentences import STEMS

SHOWN = 8
"""Most captions that a report shows as examples."""

Asked = Sequence[tuple[Question, int]]
"""Questions, each with the number of its clip."""


def evaluate_adapter(
    adapter: Adapter,
    clips: Features,
    classes: ClassTable,
    encoder_name: str,
    questions: Mapping[str, Asked],
    *,
    mode: AnswerMode = "loglik",
    blind: bool = False,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> AdapterReport:
    """Let an adapter caption clips and answer questions about them, and score the results.

    Args:
        adapter: the adapter.
        clips: features of labelled clips that it was not trained on.
        classes: classes of the data set.
        encoder_name: name of the encoder of the features.
        questions: sets of questions, by name.
        mode: how questions are answered.
        blind: replace features by zeros.
        batch_size: clips per batch.
        seed: seed of the order of options when questions are asked a second time.
        progress: show progress bars.

    Raises:
        EvaluationError: a label is not one of the classes.
    """
    check_labels(clips.labels, len(classes.labels))
    speaker = Speaker(adapter, clips.blinded() if blind else clips, batch_size, progress)
    captions = speaker.captions()
    reader = reader_for(classes)
    true = [class_attributes(classes, label) for label in clips.labels.tolist()]
    shown = range(0, len(clips), max(1, len(clips) // SHOWN))
    return AdapterReport(
        adapter=adapter.model.config.name,
        encoder=encoder_name,
        blind=blind,
        clips=len(clips),
        captions=caption_figures([reader(text) for text in captions], true),
        classifier=caption_figures([class_attributes(classes, i) for i in clips.predicted.tolist()], true),
        mode=mode,
        questions={
            name: question_figures(speaker, clips, classes, asked, mode, seed) for name, asked in questions.items()
        },
        examples=[
            Example(clip=clips.names[i], label=classes.labels[clips.labels[i]], caption=captions[i])
            for i in list(shown)[:SHOWN]
        ],
    )


def question_figures(
    speaker: Speaker, clips: Features, classes: ClassTable, asked: Asked, mode: AnswerMode, seed: int = 0
) -> QuestionFigures:
    """Answer a set of questions twice, the second time with the options in another order."""
    chosen = speaker.answers(asked, mode)
    right = [option in question.acceptable for option, (question, _) in zip(chosen, asked, strict=True)]
    plain = [i for i, (question, _) in enumerate(asked) if not question.has_duplicates]
    others = [i for i, (question, _) in enumerate(asked) if question.has_duplicates]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(LETTERS)).tolist() for _ in asked]
    again = speaker.answers([(reordered(q, o), clip) for (q, clip), o in zip(asked, orders, strict=True)], mode)
    same = [
        _text(question, first) == _text(reordered(question, order), second)
        for (question, _), order, first, second in zip(asked, orders, chosen, again, strict=True)
    ]
    by_classifier = [classifier_choice(question, clips, clip, classes) for question, clip in asked]
    known = [i for i in plain if by_classifier[i] is not None]
    return QuestionFigures(
        adapter=Share.of([right[i] for i in plain]) if plain else None,
        classifier=Share.of([by_classifier[i] in asked[i][0].acceptable for i in known]) if known else None,
        consistency=Share.of([same[i] for i in plain]) if plain else None,
        duplicates=Share.of([right[i] for i in others]) if others else None,
    )


def reordered(question: Question, order: Sequence[int]) -> Question:
    """The same question with its options reordered: option ``order[i]`` at position i."""
    a, b, c, d = (question.options[i] for i in order)
    return question.model_copy(update={"options": (a, b, c, d), "answer": list(order).index(question.answer)})


def _text(question: Question, chosen: int | None) -> str | None:
    return None if chosen is None else normalised(question.options[chosen])


def classifier_choice(question: Question, clips: Features, clip: int, classes: ClassTable) -> int | None:
    """The option that the classifier finds most probable; None if it knows none of them."""
    best: dict[str, float] = {}
    for label, logit in zip(classes.labels, clips.logits[clip, 0].tolist(), strict=True):
        text = normalised(option_text(label))
        best[text] = max(logit, best.get(text, -np.inf))
    scores = [best.get(normalised(option), -np.inf) for option in question.options]
    return int(np.argmax(scores)) if max(scores) > -np.inf else None


def make_questions(
    clips: Features, classes: ClassTable, seed: int = 0, limit: int | None = None
) -> dict[str, list[tuple[Question, int]]]:
    """Make one question of each difficulty about every clip, or about a random subset.

    Args:
        clips: labelled clips; hard options come from their classifier's scores.
        classes: classes of the data set.
        seed: seed of the subset, of the options and of their order.
        limit: largest number of clips; None for all.
    """
    distractors = Distractors(classes)
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(clips))
    if limit is not None and limit < len(clips):
        chosen = np.sort(rng.choice(len(clips), limit, replace=False))
    made: dict[str, list[tuple[Question, int]]] = {}
    for difficulty in DIFFICULTIES:
        made[difficulty] = []
        for clip in chosen.tolist():
            label = int(clips.labels[clip])
            wrong = distractors.wrong(difficulty, label, rng, clips.logits[clip, 0])
            options, answer = distractors.options(label, wrong, rng)
            name = f"{difficulty}-{clip}"
            question = Question(id=name, stem=STEMS[0], options=options, answer=answer, video=clips.names[clip])
            made[difficulty].append((question, clip))
    return made


def match_clips(questions: Sequence[Question], clips: Features, source: Path) -> list[tuple[Question, int]]:
    """Match the questions of a file with clips, by name or by name without folder and suffix.

    Raises:
        EvaluationError: no question is about a clip of the list, or a short name matches several clips.
    """
    places = {name: i for i, name in enumerate(clips.names)}
    short: dict[str, int] = {}
    several = set()
    for i, name in enumerate(clips.names):
        if Path(name).stem in short:
            several.add(Path(name).stem)
        short[Path(name).stem] = i
    found = []
    for question in questions:
        if question.video in several and question.video not in places:
            raise EvaluationError(
                f"{source}, question {question.id}: {question.video} matches several clips of the list; use a full name"
            )
        place = places.get(question.video, short.get(question.video))
        if place is not None:
            found.append((question, place))
    if not found:
        raise EvaluationError(f"{source}: none of its {len(questions)} questions is about a clip of the list")
    return found


def evaluate_folder(
    folder: str | Path,
    list_file: Path,
    root: Path,
    encoder_file: Path,
    *,
    remap: Mapping[str, str] | None = None,
    referee: Path | None = None,
    questions: Path | None = None,
    mode: AnswerMode = "loglik",
    blind: bool = False,
    limit: int | None = None,
    cache: Path | None = None,
    batch_size: int = 32,
    device: Device = "auto",
    progress: bool = True,
) -> AdapterReport:
    """Evaluate an adapter folder on a list of clips.

    Args:
        folder: the adapter's folder or hub id.
        list_file: `path label` lines of clips that it was not trained on.
        root: folder that relative clip paths are joined to.
        encoder_file: the encoder that it was trained with.
        remap: path prefix replacements.
        referee: encoder whose classifier gives the hard options, so that adapters of different encoders get the same
            questions; None for `encoder_file`.
        questions: file of additional questions in the authors' format; those about other clips are skipped.
        mode: how questions are answered.
        blind: replace features by zeros.
        limit: largest number of clips with questions; None for all.
        cache: folder to cache features in; None caches nothing.
        batch_size: clips per batch.
        device: device of encoder and language model.
        progress: show progress bars.

    Raises:
        AdapterNotFoundError: there is no such adapter.
        AdapterMismatchError: it was trained with another encoder.
        EvaluationError, ListFileError, ClipError: the list does not fit, or its clips cannot be read.
        QuestionError: the file of questions is malformed.
    """
    adapter = load_adapter(folder, device=device)
    encoder = Encoder(encoder_file, cache, device)
    check_encoder(adapter.model.config, encoder.metadata)
    clips = encoder.features(list_file, root, remap, progress=progress)
    judge = clips
    if referee is not None:
        judge = Encoder(referee, cache, device).features(list_file, root, remap, progress=progress)
    asked: dict[str, Asked] = dict(make_questions(judge, encoder.classes, limit=limit))
    if questions is not None:
        asked[questions.stem] = match_clips(read_questions(questions), clips, questions)
    return evaluate_adapter(
        adapter,
        clips,
        encoder.classes,
        encoder.metadata.name,
        asked,
        mode=mode,
        blind=blind,
        batch_size=batch_size,
        progress=progress,
    )
