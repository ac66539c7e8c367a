"""Classifiers of our own, made of others: plain, fitted like scikit-learn's, saved by joblib."""
