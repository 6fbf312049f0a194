"""How good a model is, on a fixed protocol, as one table."""
