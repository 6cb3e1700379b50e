"""What a device allows, and what is measured: cost, latency, memory, accuracy, gates."""
