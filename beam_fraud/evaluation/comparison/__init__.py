"""Compare models and rule sets on scored rows: figures and a report."""
