"""Layers that several models are built of: tensors in, tensors out."""
