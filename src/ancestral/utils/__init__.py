"""Utilities: validation, docstrings, random seeds, files, serialization, processes.

Independent of data, models and training; imported by all other packages.
"""
