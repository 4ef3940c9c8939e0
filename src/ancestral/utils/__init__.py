"""Utilities: validation, docstrings, random seeds, files, serialization, processes.

Nothing here knows of data, models or training; every other package builds on it.
"""
