"""Agents that learn to tune, and classical methods, behind one interface (:class:`agents.base.Agent`)."""
