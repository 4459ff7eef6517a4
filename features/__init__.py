"""Features: a file for each, computed once from a sound, a text or a video and kept on disk.

What one must have is said in store/contract.py. `store` keeps and gathers them, `signal` holds what
several compute. No model, training or run is known here.
"""
