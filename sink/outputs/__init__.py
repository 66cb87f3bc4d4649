"""Where annotated streams go: container files and JSON lines."""
