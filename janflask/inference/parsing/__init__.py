"""What a model's answer says: its own text in, deltas out, one state for each choice.

``answer``: One answer as it grows: the model's own text in, deltas out, the same ones joined wherever the text is cut
``call_parser``: Calls of tools as they grow: the model's own text in, deltas out
``call_probe``: How a chat template's model writes its calls, found out by rendering an answer with calls in it
``calls``: How a model writes its calls of tools
``families``: Markers that are known by name: of templates that never show what was thought, and so cannot be asked
``foreign``: Calls in other notations than JSON: names, and arguments as JSON
``markers``: Finding markers in a text that comes in pieces
``probe``: How a chat template's model writes its thoughts, found out by rendering answers with and without them
``reader``: A text that grows, read from its beginning on: every step waits until it can be told what comes
``rules``: How a model writes what is no plain text: what it thinks, and where its answer begins
``stream``: The answers of one request as they come from an engine: each choice's text read, its thoughts counted
``texts``: What two texts have in common
"""
