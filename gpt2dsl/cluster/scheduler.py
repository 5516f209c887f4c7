"""MindSpore's scheduler: it brings the ranks together and ends after the last of them.

MindSpore would run the user's whole program here up to ``init``; this is all that it needs.
"""

from __future__ import annotations

import mindspore
from mindspore.communication import init

if __name__ == "__main__":
    mindspore.set_device("CPU")
    init()
