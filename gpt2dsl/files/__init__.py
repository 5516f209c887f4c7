"""Files of our own: written atomically, cached, locked."""
