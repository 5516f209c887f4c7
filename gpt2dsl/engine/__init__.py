"""Engines that execute plans on MindSpore, one module for each task."""
