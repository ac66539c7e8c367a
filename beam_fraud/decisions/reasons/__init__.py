"""Reasons of scores: contributions of features, in words."""
