"""Licence plates: photo in, readings out."""
