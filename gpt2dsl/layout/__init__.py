"""Layout of the network: configuration, and every tensor's name, shape, stage and sharding."""
