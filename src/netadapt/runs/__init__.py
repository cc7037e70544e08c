"""Runs: their configuration, their folder with an append-only journal, and what can be read back from it."""
