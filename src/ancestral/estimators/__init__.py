"""Estimators with the scikit-learn interface, one system per file.

The registry names them without importing torch; ``base`` holds the classes that they share.
"""
