"""What the network is made of: its geometry, and every tensor's name, shape and split."""
