"""Keys, usage and limits."""
