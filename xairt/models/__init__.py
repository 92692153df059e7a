"""Keras models: safe loading, model card, architectures, and the canonical graph."""
