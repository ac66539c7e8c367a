"""Figures, comparisons, explorations, charts and pages."""
