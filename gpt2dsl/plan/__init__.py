"""Plan of a recipe, validated before anything runs. No MindSpore."""
