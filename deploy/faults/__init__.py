"""The fault kit: a table of faults, run against a real fleet on this machine and judged from outside."""
