"""Aim: the repository that it keeps beside the training."""
