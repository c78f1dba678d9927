"""Answers IPv6 neighbor solicitations for addresses that live behind this host."""
