"""The one file of a fleet as a person writes it: read with its lines, filled in, checked, described."""
