"""Subcommands: a file for each, `python main.py NAME`.

A file reads its flags, calls a room below and prints; it does no work of its own, and nothing
imports it.
"""
