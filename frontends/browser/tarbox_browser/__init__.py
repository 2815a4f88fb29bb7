"""The server of the explorer: its page, and the gateway over WebSockets."""
