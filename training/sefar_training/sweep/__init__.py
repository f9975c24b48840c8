"""Sweeps: a recipe's variants, each trained with several seeds. Studies and comparisons of adapters are sweeps.

Nothing here imports torch.
"""
