"""Adapters: training a language model to read SeFAR features, and measuring what it says.

Its modules are imported one by one: some need nothing, most need torch and transformers.
"""
