"""Reports of finished runs: reads result folders, needs neither a model nor the harness.

In the order of the data: ``load``, ``reader`` and ``samples`` read and check files into ``rows``;
``prices`` prices their calls; ``sources`` finds the LLM-only figures; ``lanes`` are ways through
the questions, live or computed by ``replays``; ``entries`` are methods, one lane a
seed; ``ledger`` bootstraps all their columns at once; ``methods``, ``matched`` and ``comparisons``
turn the draws into ``figures``; ``boards`` and ``assemble`` put them side by side. ``blocks`` and
``leaderboard`` say it in words and tables, ``table``, ``formats`` and ``jsonform`` write those,
``output`` puts them into files. ``command`` and ``compare_command`` are the sub-commands, ``gate``
is for tests.
"""
