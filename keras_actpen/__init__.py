"""Penalise and watch what Keras layers put out."""
__version__ = "0.1.0"
