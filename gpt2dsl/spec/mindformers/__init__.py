"""Import from MindFormers: its YAML and its command lines as recipes."""
