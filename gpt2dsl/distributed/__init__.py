"""Distributed execution: process groups and collectives."""
