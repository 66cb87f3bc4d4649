"""The agent of a node: what its parts say, for those who ask."""
