"""Notifications: readings on the event bus and to webhooks, and usage alerts."""
