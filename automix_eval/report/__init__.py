"""Reports of finished runs: reads result folders, needs neither a model nor the harness.

``load`` and ``samples`` read and check files, ``sources`` finds the LLM-only figures, ``summary``
turns records and prices into figures, ``blocks`` puts them into words and tables, ``table`` and
``formats`` write those as text, Markdown, CSV or JSON, ``command`` is the sub-command.
"""
