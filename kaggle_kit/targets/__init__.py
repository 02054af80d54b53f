"""Targets: the machines a notebook is built for, as data files."""

from kaggle_kit.targets.target import Target, load_target, target_names

__all__ = ["Target", "load_target", "target_names"]
