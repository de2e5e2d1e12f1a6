"""An engine process: one model in llama.cpp, batched for everybody who asks it.

``__main__``: An engine process: ``python -m janflask.engine``, started by the supervisor with a socket pair as its
    birth cord
``builder``: From a model and its settings to a loop that is ready to run, and the description of what came out
``connection``: One client of an engine: the sink of its sequences, and a buffer for what its socket does not take yet
``constraining``: What the sequences of a loop may say: masks for those that are led, and the tokens that come of what
    they draw
``constraint``: Structured output: constraints are compiled to matchers by llguidance, beside the loop and within limits
``context``: A context over a model in llama.cpp: its KV memory, its batch, and the hot path through the extension
``conversations``: KV states beyond the slots: put away before a slot is lost, brought back before a prompt is computed
``cores``: How many cores there are for an engine
``devices``: What memory llama.cpp's GPUs have: ``python -m janflask.engine.devices`` prints it as JSON
``echo``: A prompt that comes before its answer: its text token by token, and its log-probabilities as they are computed
``embedder``: Makes vectors for everybody who asks: requests in turn, several inputs in one decode. One thread runs it
``embedding``: A llama.cpp context that makes vectors of texts: what pooling, how large, one decode for several inputs
``ends``: Which tokens end an answer, and which only have a name that llama.cpp takes for an end
``fingerprint``: What a KV state depends on: under another fingerprint it is of no use
``governor``: Keeps a step that mixes prompt and generation about as long as it was when the slice size was measured
``guide``: What leads an answer while it grows: which tokens may come next, and what comes of one that was drawn
``guides``: What leads the answers of a request: the constraints that have to be compiled for it, and a guide for each
    choice
``knob_cache``: Remembers measured knobs in a small JSON file: fingerprint of machine, library, model and settings ->
    knobs
``library_log``: llama.cpp's own log, on its way into ours
``loop``: The engine's loop: schedule -> one decode for everybody -> sample -> text -> sinks. One thread runs it
``marker_rules``: The markers in a grammar, as a vocabulary has them: control tokens, text, or some of both
``matcher``: What follows an answer that is under a constraint: which tokens may come next, computed while llama.cpp
    computes
``model``: A model's weights and vocabulary in llama.cpp, loaded through llama-cpp-python's bindings
``newest``: The newest tokens of a text that is read along, as long as it is not decided what they are
``prefix_cache``: What every sequence slot of the KV memory holds, and which slot serves a prompt best
``prompts``: A prompt's tokens, also where some of its words must not be taken for special tokens
``scheduler``: Who is computed in the next step: admission, prompt slices, and what gives way when the KV memory runs
    short
``sequence``: One continuation being generated: its tokens, how far they are computed, and what it still may do
``server``: What an engine answers: it generates, makes embeddings, cuts texts into tokens and tells how busy it is
``sizing``: How large a context to make: as the settings say, in which admission has put what it decided
``snapshots``: KV states on disk, so that a conversation that was stopped, evicted or restarted is not computed again
``sockets``: A server on a Unix socket: one thread reads and writes frames, others hand it what to send
``spelling``: Texts as the tokens that make exactly their bytes: what an engine writes in a model's place
``state_index``: Which of the states on disk begin like a prompt: the tokens of all of them in memory, in order
``state_key``: The key by which an engine knows a KV state as one that this data folder's engines wrote
``telling``: What is told of tokens beside an answer's text: their log-probabilities, and a prompt's own tokens with
    theirs
``trial``: Times real decodes on a context opened for it
``tuning``: Which knobs are fastest here: measured once per machine, model and settings, then remembered
``vocabulary``: Which token ids a model has. The one place where ids that came from a client are held against it
``watch``: An answer that is read along while it grows: constraints that hold from some place in it on, thoughts that
    are ended
``worker``: A thread that works in steps, takes what others hand it between two of them, and knows how long it has
    rested
"""
