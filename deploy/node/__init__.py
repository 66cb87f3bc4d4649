"""A node: what ``headrace up`` starts under supervisor and looks after."""
