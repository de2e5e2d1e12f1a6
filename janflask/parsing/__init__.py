"""What a model's answer says: its own text in, deltas out, one state for each choice. The engine reads along, too.

``answer``: One answer as it grows: the model's own text in, deltas out, the same ones joined wherever the text is cut
``call_parser``: Calls of tools as they grow: the model's own text in, deltas out
``calls``: How a model writes its calls of tools
``deltas``: What is said of an answer while it grows: pieces of text, of reasoning, of tool calls, and log-probabilities
``foreign``: Calls in other notations than JSON: names, and arguments as JSON
``lark``: Texts and expressions as llguidance's dialect of Lark writes them
``markers``: Finding markers in a text that comes in pieces
``reader``: A text that grows, read from its beginning on: every step waits until it can be told what comes
``rules``: How a model writes what is no plain text: what it thinks, and where its answer begins
``tagged``: Arguments between tags, told as the JSON object that they are, as they grow
``values``: Values of a call's arguments: what stands between tags or in a text, as JSON
"""
