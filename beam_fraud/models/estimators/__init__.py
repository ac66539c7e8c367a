"""Estimators with the interface of scikit-learn, which joblib can save."""
