"""MindSpore's scheduler, which connects the ranks and ends after the last of them.

MindSpore would run the user's program here up to ``init``; nothing else of it is needed.
"""

from __future__ import annotations

import mindspore
from mindspore.communication import init

if __name__ == "__main__":
    mindspore.set_device("CPU")
    init()
