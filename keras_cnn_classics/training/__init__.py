"""Training: losses, callbacks and the papers' recipes."""
