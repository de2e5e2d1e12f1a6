"""What an answer must look like: from the fields of a request to what holds a model, and the check of what came.

``answer_forms``: What an answer must look like, as requests, runs, assistants and threads say it: a constraint, or
    refused by name
``constrained``: What an answer must look like, from a request's fields to what an engine is asked, and by what the
    answer is checked
``gbnf``: llama.cpp's grammars (GBNF) in llguidance's dialect of Lark
``json_schema``: A client's JSON schema, made ready: what the model is held to while it writes, and what its answer is
    checked by
``lark``: A grammar in llguidance's dialect of Lark, as it is put together
``raw_text``: Texts that stand in a call as they are, without quotes: what they may be under a schema, as a terminal
``schema_formats``: The formats of strings and numbers in JSON schemas: which a model can be held to, and by what
    answers are checked
``schema_forms``: A schema taken apart, for notations that llguidance knows no schema for: which plain forms a value may
    have
``simple_patterns``: Regular expressions as response templates have them: texts with blanks, choices and named parts
    between them
"""
