"""VINs: photo in, number out."""
