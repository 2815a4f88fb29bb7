"""The server of the explorer: its page, the gateway and the door of verbs over WebSockets. `running.serve` is the way in; docs/security.md
says whom it keeps out.

Not here: what a client of the gateway may do (tarbox_core.gateway), what tokens are (tarbox_core.tokens), and the page itself.
"""
