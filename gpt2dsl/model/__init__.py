"""GPT-2 in MindSpore: the network, its loss, a training step, and decoding with a cache."""

import os

# MindSpore warns of its own optimisations, for instance that a result which only the gradient
# needs was left out of the forward graph. GLOG_v=2 shows the warnings again; errors are shown.
os.environ.setdefault("GLOG_v", "3")
