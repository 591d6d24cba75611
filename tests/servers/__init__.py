"""Servers that tests start: what takes more than a program of Debian's."""
