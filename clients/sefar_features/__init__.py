"""Reads the features that `sefar extract` writes."""
