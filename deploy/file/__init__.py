"""The one file of a fleet as a person writes it: read with its lines, filled in, checked, described."""

#: What it is called where nobody names another.
FILE = "headrace.toml"
