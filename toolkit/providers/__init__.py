"""Providers: one file for each way to reach a model, behind one base class and one registry."""
