"""Checking every file of the store, and repairing what can be repaired.

``case``: What the checks of the doctor share: what they find, and how they put something else in a file's place
``checks``: The doctor's look at assistants and at uploaded files
``examination``: ``janflask doctor``: looks at every file of the store, says what is wrong, and repairs what can be
``runs``: The doctor's look at a thread's runs, and at their event logs
``threads``: The doctor's look at one thread: ``thread.json``, every line of ``messages.jsonl``, what these refer to
"""
