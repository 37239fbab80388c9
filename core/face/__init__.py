"""What Python asks of the engine, and what it gets. Uses all."""
