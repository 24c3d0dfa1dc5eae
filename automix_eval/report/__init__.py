"""Reports: the figures of :mod:`automix_eval.analysis` as text, tables, JSON, pictures and a page.

Nothing here computes a figure, and nothing here needs a model or the harness.
"""
