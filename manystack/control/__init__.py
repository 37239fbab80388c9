"""Both sides of a running network's control socket: the server with its table of operations, and the client.

Uses `errors`, `handles`, `host`, `network`, `ping`, `record`, `report`, `results`, `shaping`, `text`,
`topology`, `topology/document`, `topology/link`, `wiring`.
"""
