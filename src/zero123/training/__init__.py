"""Training: the small model's architecture, its autoencoder, the loss step and the loop."""
