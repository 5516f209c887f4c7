"""What decides the result of a run, by value and by content, and what may differ at a resume."""
