"""Carsight on one machine: the deployed handlers behind a local gateway, with embedded stores."""
