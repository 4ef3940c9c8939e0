"""Experiments: run folders, recipes, scoring, records and the report page.

A recipe is run as jobs; each leaves a run folder and, once scored, a record.
"""
