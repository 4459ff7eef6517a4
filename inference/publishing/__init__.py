"""A run as the hub expects a model: its files, its card, where its parts came from."""
