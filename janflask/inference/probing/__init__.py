"""How a model writes thoughts and calls, found out from its chat template.

``calls``: How a chat template's model writes its calls, found out by rendering an answer with calls in it
``families``: Markers that are known by name: of templates that never show what was thought, and so cannot be asked
``response_template``: ``response_template`` of model.json: how a model's answers are to be read, instead of what its
    chat template shows
``texts``: What two texts have in common
``thoughts``: How a chat template's model writes its thoughts, found out by rendering answers with and without them
"""
