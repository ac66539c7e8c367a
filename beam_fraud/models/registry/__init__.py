"""The registry of models and rule sets: which one decides, who put it there, and how to go back."""
