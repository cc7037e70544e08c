"""Devices: where files are timed. Each is a module of its own; `registry.py` knows their names."""
