"""Runtimes: how networks become the files that are timed. Each is a module of its own; `registry.py` knows them."""
