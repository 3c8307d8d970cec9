"""Tensor functions that methods share: top-p candidate sets, states and losses formed on them, cross entropy."""
