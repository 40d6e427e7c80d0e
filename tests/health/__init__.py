"""Health: the core, the endpoints, and real faults."""
