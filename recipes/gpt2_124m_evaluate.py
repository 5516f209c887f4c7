"""The perplexity of the published GPT-2 124M on WikiText-2.

The card's evaluation of run_gpt2.yaml. Corrected: the last passage and the last, shorter row
count, and each token weighs the same, whatever batch it is in.
"""

from gpt2dsl import Data, Model, Task, Train

recipe = (
    Model(size="124m")
    | Data(format="wikitext")
    | Train(batch_size=4)
    | Task.evaluate(data="wiki.valid.tokens")
)
