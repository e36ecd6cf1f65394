"""A client, with its services and its streams."""
