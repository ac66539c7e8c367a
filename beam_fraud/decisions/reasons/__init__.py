"""Why a score is what it is: contributions of features, in words."""
