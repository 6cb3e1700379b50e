"""The runtime: all that a device needs to score photographs, without torch."""
