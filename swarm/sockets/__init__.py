"""What the agent's proxies and the daemon's own socket are made of."""
