"""From a checked request to what an engine is asked, and back: templates, sampling, generations.

``answer_forms``: What an answer must look like, as requests, assistants and threads say it: made a constraint, or
    refused by name
``backend``: The one door to a model, whatever runs it: what the API, the runs and everything above know of models that
    answer
``backends``: Which backend answers for a model
``call_grammar``: A grammar for calls of tools: a model's own format, with each tool's arguments under its schema
``call_notation``: Values in other notations than JSON, under a schema: Python's literals, and Gemma's objects without
    quotes
``call_patterns``: What a rule gives as a regular expression, as a grammar: its tags are markers, which may be control
    tokens
``call_tagged``: Arguments between tags: texts as they are, all else as JSON
``checked_calls``: The check of finished calls: arguments that do not meet their tool's schema stand, and the answer
    says so
``constrained``: What an answer must look like, from a request's fields to what an engine is asked, and by what the
    answer is checked
``deltas``: What a backend says of an answer while it grows, from its start to its end
``functions``: Tools as requests, assistants and threads name them, read without a schema: runs take them over from
    files
``gbnf``: llama.cpp's grammars (GBNF) in llguidance's dialect of Lark
``gguf_template``: The chat template inside a GGUF, over any conversation: as it is where the template takes it, else as
    it needs it
``json_schema``: A client's JSON schema, made ready: what the model is held to while it writes, and what its answer is
    checked by
``lark``: A grammar in llguidance's dialect of Lark, as it is put together
``leftovers``: What of a conversation no model here is shown, by name: asked before it is answered, so that nothing gets
    lost
``parts``: What a message is made of
``raw_text``: Texts that stand in a call as they are, without quotes: what they may be under a schema, as a terminal
``requests``: What clients ask of models: a schema turns each body into one of these, and below it nobody sees a raw one
``response_template``: ``response_template`` of model.json: how a model's answers are to be read, instead of what its
    chat template shows
``sampling``: How a request is answered: its own fields over the model's ``parameters`` over the built-in defaults
``schema_formats``: The formats of strings and numbers in JSON schemas: which a model can be held to, and by what
    answers are checked
``schema_forms``: A schema taken apart, for notations that llguidance knows no schema for: which plain forms a value may
    have
``simple_patterns``: Regular expressions as response templates have them: texts with blanks, choices and named parts
    between them
``template_check``: Whether all that was said is in the prompt: a chat template drops what it does not understand
    without a word
``template_layouts``: The layouts that are written down here: Jan's ``prompt_template``, ChatML, and plain text
``template_messages``: A conversation as a chat template can take it
``template_probe``: Which form of a message a chat template reads, found out by rendering small conversations with it
``template_process``: One chat template in a process of its own, which can be killed; see ``template_renderer``
``template_renderer``: A process that renders one chat template, with limits of time and memory. Run as a script by
    ``template_process.py``
``templates``: From messages to the prompt that a model was trained to see
``tool_schemas``: What tools' arguments must look like: which schema holds a model, and by which a finished call is
    checked
``totals``: Several generations of one request, as one
``tries``: How often one request is tried: the one policy
``waiting``: Waiting for an engine or the supervisor without losing sight of the client
``window``: Which of a conversation's messages a model is shown when not all of them fit its context
"""
