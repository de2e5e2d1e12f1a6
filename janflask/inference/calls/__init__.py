"""Calls of tools: which may be made, the grammar that holds a model to them, the check of those it has made.

``checked``: The check of finished calls: arguments that do not meet their tool's schema stand, and the answer says so
``functions``: Tools as requests, assistants and threads name them, read without a schema: runs take them over from
    files
``grammar``: A grammar for calls of tools: a model's own format, with each tool's arguments under its schema
``notation``: Values in other notations than JSON, under a schema: Python's literals, and Gemma's objects without quotes
``patterns``: What a rule gives as a regular expression, as a grammar: its tags are markers, which may be control tokens
``tagged``: Arguments between tags: texts as they are, all else as JSON
``tool_schemas``: What tools' arguments must look like: which schema holds a model, and by which a finished call is
    checked
"""
