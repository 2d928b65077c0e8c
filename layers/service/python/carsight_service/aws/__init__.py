"""AWS and the network: clients, and the guarded fetch."""
