"""From a torch module to graphs that a device runs, checked and packed into a bundle."""
