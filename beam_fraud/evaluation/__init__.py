"""Evaluate models and explore data: figures, comparisons, charts and pages."""
