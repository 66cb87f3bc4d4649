"""Kinds of sources: what each address asks for (plan), how it is opened (opening), and what its errors say (faults)."""
