"""MindSpore backend: device, compiled graphs, memory, and turns between threads."""

import os

# MindSpore warns about its own optimisations, e.g. that a result needed only by the gradient was
# pruned from the forward graph. Errors are still shown; set GLOG_v=2 to see the warnings again.
os.environ.setdefault("GLOG_v", "3")
