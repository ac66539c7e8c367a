"""Quality of the models on real transactions, beside published figures."""
