"""Batch feature extraction: from a folder, list, manifest or glob to Parquet shards. A killed run can be resumed.

It needs the extra `batch`, so the rest of `sefar_serve` imports it only when it is used.
"""
