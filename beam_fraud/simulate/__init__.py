"""Labelled card transactions out of nothing: people, terminals, purchases and three kinds of fraud.

The method is that of the simulator in "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook" (Le Borgne, Siblini, Lebichot, Bontempi; ULB, 2022), chapter 3.
"""
