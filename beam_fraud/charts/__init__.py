"""Plots and pages of reports."""
