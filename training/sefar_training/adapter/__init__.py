"""Adapters: train a language model to read SeFAR features, and evaluate its captions and answers.

Import the modules one by one: most need torch and transformers, some need neither.
"""
