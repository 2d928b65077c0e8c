"""From an API Gateway event to a response."""
