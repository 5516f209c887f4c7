"""A chain: adapters on the published GPT-2 124M, then a server of them.

Run it twice: the training is not repeated, and the server starts at once.
"""

from gpt2dsl import Task
from recipes.gpt2_124m_finetune_lora import recipe as trained

recipe = trained >> Task.serve(name="wiki")
