"""What the stores of `skfairft.feature_store` are made of."""
