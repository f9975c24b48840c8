"""sefar-serve: fine-grained action recognition from few labels, served."""

__version__ = "0.1.0"
