"""Telling others that something has been read."""
