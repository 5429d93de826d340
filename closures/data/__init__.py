"""Training data: what is made, how it is stored, and how it is read."""
