"""The training commands of `sefar`."""
