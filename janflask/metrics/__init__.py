"""What the server tells of itself: to Prometheus when it is scraped, to who looks at it; counts of its own.

``collector``: All that Prometheus is told, asked for at each scrape: of the files, the supervisor, the runner, and
    every engine
``engine_families``: What engines count, as metric families by model
``exposition``: What Prometheus reads, at each scrape. Its library is loaded at the first one: who is never scraped
    needs none
``families``: Numbers as Prometheus' metric families, under vLLM's names with our prefix where vLLM has one for the same
    thing
``http_counts``: What a worker counts of its requests. The labels are the application's own: no client can make a new
    one
``overview``: What is going on in the server at one moment: models, the answers they owe, memory, processes. Ids and
    numbers only
``process_families``: What processes use, as metric families by what they are: their ids come and go, and would be ever
    new labels
``processes``: The server's processes: which there are, and what each of them and all of a kind use
``shared_counts``: Counts of one process that others can read, also when it is dead: a small file in the runtime folder,
    mapped
``text``: Metric families as the text that every Prometheus reads, to the byte as prometheus-client writes it
``tracing``: Traces for OpenTelemetry, by its conventions for HTTP and for generative AI; without content
``webhooks``: How it stands with webhooks: asked of the spool, which counts for as long as there is an endpoint
"""
