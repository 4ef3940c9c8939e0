"""Base classes of the estimators.

Fields and saving, tables of typed columns, gradient-based fitting, latent-variable, supervised and
implicit estimators.
"""
