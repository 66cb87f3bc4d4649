"""Class names of the networks, as plain Python."""
