"""Recipe → plan: what will run, exactly, checked before anything starts. No MindSpore."""
