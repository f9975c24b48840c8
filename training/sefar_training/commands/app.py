"""Every training command, as `sefar` finds them: by the entry point `training` of the group `sefar.commands`."""

from __future__ import annotations

import typer

from . import adapter, calibration, data, evaluation, fusion, models, quantization, start, synthgym, training, weights

TRAIN, DATA = "Train and evaluate", "Training data"

app = typer.Typer()
for command in (
    training.train,
    evaluation.evaluate,
    training.study,
    calibration.calibrate,
    models.export,
    quantization.quantize,
    fusion.fuse,
    models.convert,
):
    app.command(rich_help_panel=TRAIN)(command)
app.add_typer(weights.app, name="weights", rich_help_panel=TRAIN)
app.add_typer(adapter.app, name="adapter", rich_help_panel=TRAIN)
for command in (start.init, synthgym.synth, data.lists):
    app.command(rich_help_panel=DATA)(command)
