from tests.networks import on_cpu, tiny

__all__ = ["on_cpu", "tiny"]
