"""What a model's scores are worth: figures, their uncertainty, and reports of them."""
