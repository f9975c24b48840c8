"""What is in the folder of a run, by name."""

FINAL = "final"
"""Checkpoint that a run ends with: for a classifier the moving average, or the student if that is better."""

STUDENT = "student"
"""Checkpoint of a classifier without the moving average."""

STATE = "state.pt"
"""State to resume from."""

BEST = "best.pt"
"""Weights of the best epoch, with early stopping."""

LOG = "log.jsonl"
"""Figures of each epoch, one JSON object per line."""

OUTPUT = "train.log"
"""Output of a run that has a process of its own."""
