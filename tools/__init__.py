"""The edgeiqa command: one file a verb, loaded only when called."""
