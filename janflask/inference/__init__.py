"""From a checked request to what is asked of a model, and back: the one door to models, and what goes through it.

``apart``: What is remembered between requests, apart for each key: how soon an answer comes must not tell what others
    asked
``backend``: The one door to a model, whatever runs it: what the API, the runs and everything above know of models that
    answer
``backends``: Which backend answers for a model
``blocks``: A conversation in turns of blocks, as Anthropic's Messages have it, and the messages that a model is shown
    of it
``deltas``: What a backend says of an answer while it grows, from its start to its end
``leftovers``: What of a conversation no model here is shown, by name: asked before it is answered, so that nothing gets
    lost
``logprobs``: Log-probabilities as a chat's answer tells them: an entry for each token
``metered``: A backend whose tokens are counted for the key that the work is for
``parts``: What a message is made of
``quoted``: A backend that writes what was asked and answered to the log: only where ``JANFLASK_LOG_PROMPTS`` says so
``requests``: What clients ask of models: a schema turns each body into one of these, and below it nobody sees a raw one
``sampling``: How a request is answered: its own fields over the model's ``parameters`` over the built-in defaults
``totals``: Several generations of one request, as one
``traced``: A backend that tells where the time of each answer went, when it is over
``tries``: How often one request is tried: the one policy
``waiting``: Waiting for an engine or the supervisor without losing sight of the client
``window``: Which of a conversation's messages a model is shown when not all of them fit its context
``wrapped``: A backend that does all by another one: for those that add something to some of it
"""
