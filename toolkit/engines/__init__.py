"""Local engines: what finds weights, loads them and generates text on this machine."""
