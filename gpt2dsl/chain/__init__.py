"""Recipes one after another: the next takes the weights of the last, what is done stays done."""
