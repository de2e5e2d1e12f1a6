"""What a model's answer says: its own text in, deltas out, one state for each choice.

``answer``: One answer as it grows: the model's own text in, deltas out, the same ones joined wherever the text is cut
``families``: Markers that are known by name: of templates that never show what was thought, and so cannot be asked
``markers``: Finding markers in a text that comes in pieces
``probe``: How a chat template's model writes its thoughts, found out by rendering answers with and without them
``rules``: How a model writes what is no plain text: what it thinks, and where its answer begins
``stream``: The answers of one request as they come from an engine: each choice's text read, its thoughts counted
"""
