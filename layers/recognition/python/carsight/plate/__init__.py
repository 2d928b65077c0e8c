"""License plates: photo in, readings out."""
