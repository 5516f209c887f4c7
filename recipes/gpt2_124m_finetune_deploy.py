"""A chain: adapters on the published GPT-2 124M, their perplexity, and graphs for MindSpore Lite.

Run it twice: what is done and verified does not run again.
"""

from gpt2dsl import Task, Train
from recipes.gpt2_124m_finetune_lora import recipe as trained

evaluated = Train(batch_size=8) | Task.evaluate(data="wiki.test.tokens")

recipe = trained >> evaluated >> Task.export(target="gpt2-lite", format="ms", seq_length=256)
