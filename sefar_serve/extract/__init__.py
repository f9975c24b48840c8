"""Features of many clips: from a folder, list, manifest or glob to Parquet shards, killed and continued at will.

It needs the packages of the extra `batch`; nothing else in `sefar_serve` imports it unasked.
"""
