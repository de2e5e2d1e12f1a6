"""An engine process: one model in llama.cpp, batched for everybody who asks it.

``__main__``: An engine process: ``python -m janflask.engine``, started by the supervisor with a socket pair as its
    birth cord
``answers``: What becomes of the answers in a step: their next tokens drawn, made text and told, until each ends or
    fails
``bindings``: llama.cpp's bindings alone, without the Python library that their package imports along
``builder``: From a model and its settings to a loop that is ready to run, and the description of what came out
``checkpoints``: Where a memory that cannot be cut can go back to: states of its partial kind, taken at exact places of
    a prompt
``chores``: Work for moments in which nobody waits for an answer, in pieces: a request is kept waiting for one at most
``connection``: One client of an engine: the sink of its sequences, and a buffer for what its socket does not take yet
``constraining``: What the sequences of a loop may say: masks for those that are led, and the tokens that come of what
    they draw
``constraint``: Structured output: constraints are compiled to matchers by llguidance, beside the loop and within limits
``context``: A context over a model in llama.cpp: its KV memory, its batch, and the hot path through the extension
``conversations``: KV states beyond the slots: put away before a slot is lost, brought back before a prompt is computed
``cores``: How many cores there are for an engine
``devices``: What memory llama.cpp's GPUs have: ``python -m janflask.engine.devices`` prints it as JSON
``draft``: What one sequence is guessed to say next, and how well its guesses have gone
``drafting``: Which sequences bring guessed tokens to a step, how many, and what becomes of them
``echo``: A prompt that comes before its answer: its text token by token, and its log-probabilities as they are computed
``embedder``: Makes vectors for everybody who asks: requests in turn, several inputs in one decode. One thread runs it
``embedding``: A llama.cpp context that makes vectors of texts: what pooling, how large, one decode for several inputs
``ends``: Which tokens end an answer, and which only have a name that llama.cpp takes for an end
``exact_rows``: How many rows of a decode are computed to the same bits as one row alone: the one place that says so
``figures``: What was measured of a model on this machine, and how sure it is: figures that better ones replace
``fingerprint``: What a KV state depends on: under another fingerprint it is of no use
``giving_back``: The chore of giving back: what an engine at rest holds that is on the disk, too, or that nobody will
    miss
``governor``: Keeps a step that mixes prompt and generation about as long as it was when the slice size was measured
``guesses``: Knobs to begin with, before anything was measured: what is right, or nearly, on most machines of this kind
``guide``: What leads an answer while it grows: which tokens may come next, and what comes of one that was drawn
``guides``: What leads the answers of a request: the constraints that have to be compiled for it, and a guide for each
    choice
``keep_states``: The chore of putting away what is nowhere but in a slot: an engine may be killed at any time
``knob_cache``: Remembers what was measured in a small JSON file: fingerprint of machine, library, model and settings ->
    figures
``knowledge``: What is known of a model's speed on this machine: its figures, where they are kept, and what follows from
    them
``latencies``: Counts how long requests wait, are computed and answered, where these times are known: without a lock or
    a clock
``library_log``: llama.cpp's own log, on its way into ours
``loop``: The engine's loop: schedule -> one decode for everybody -> sample -> text -> sinks. One thread runs it
``marker_rules``: The markers in a grammar, as a vocabulary has them: control tokens, text, or some of both
``matcher``: What follows an answer that is under a constraint: which tokens may come next, computed while llama.cpp
    computes
``measuring``: The chore of measuring the knobs while the engine rests, a decode at a time, on small contexts of its own
``model``: A model's weights and vocabulary in llama.cpp, loaded through llama-cpp-python's bindings
``newest``: The newest tokens of a text that is read along, as long as it is not decided what they are
``pages``: Where a context's KV memory lies in RAM, and how what nobody uses of it goes back to the system
``plan``: All that is decided before a context is made, and what follows from it for the loop
``prefix_cache``: What every sequence slot of the KV memory holds, and which slot serves a prompt best
``prompts``: A prompt's tokens, also where some of its words must not be taken for special tokens
``ram_states``: KV states in this process's memory, of what lost its slot: nearer than the disk, and within a budget of
    bytes
``retuning``: Changes the knobs of an engine that runs, while it rests, and tells of it
``scheduler``: Who is computed: admission into slots, with what is held of each prompt, and what gives way when cells
    run short
``sequence``: One continuation being generated: its tokens, how far they are computed, and what it still may do
``served``: What an engine has served: how many tokens at which depth of context, as far as it tells what it will serve
``server``: What an engine answers: it generates, makes embeddings, cuts texts into tokens and tells how busy it is
``sizing``: How large a context to make: as the settings say, in which admission has put what it decided
``slices``: How a step is divided: the tokens that each running sequence brings
``slot``: What one sequence id of the KV memory holds: its tokens, whose they are, and the checkpoints taken of them
``snapshots``: KV states on disk, so that a conversation that was stopped, evicted or restarted is not computed again
``sockets``: A server on a Unix socket: one thread reads and writes frames, others hand it what to send
``spelling``: Texts as the tokens that make exactly their bytes: what an engine writes in a model's place
``state_index``: Which of the states on disk begin like a prompt: the tokens of all of them in memory, in order
``state_key``: The key by which an engine knows a KV state as one that this data folder's engines wrote
``step_costs``: What a step costs here, learnt from the steps themselves: milliseconds of a decode by how many tokens it
    has
``telling``: What is told of tokens beside an answer's text: their log-probabilities, and a prompt's own tokens with
    theirs
``trial``: Times real decodes on a small context opened for it, one at a time. A decode ends at once when somebody comes
``tuning``: The knobs that decide speed: guessed first, and chosen by what was measured once it says clearly more
``vocabulary``: Which token ids a model has. The one place where ids that came from a client are held against it
``wake``: An event that native code sees, too: llama.cpp leaves off a decode that is only a trial when somebody comes
``watch``: An answer that is read along while it grows: constraints that hold from some place in it on, thoughts that
    are ended
``worker``: A thread that works in steps, takes what others hand it between two of them, and knows how long it has
    rested
"""
