"""Simulate labelled card transactions: customers, terminals, purchases and frauds.

The method is that of the simulator in "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook" (Le Borgne, Siblini, Lebichot, Bontempi; ULB, 2022), chapter 3.
"""
