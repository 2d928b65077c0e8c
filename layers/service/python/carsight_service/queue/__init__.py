"""From a queue message to a result in S3."""
