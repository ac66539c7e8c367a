"""How good the models are on real transactions, beside what others have published."""
