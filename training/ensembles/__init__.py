"""Ensembles: runs made of finished runs, and what is learnt of their predictions."""
