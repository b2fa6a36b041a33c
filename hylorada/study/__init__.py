"""The study, wing by wing: each imports only from the floors below it, so that one can be read without those above.

    8  paper, page, trace   three readers of the same results; LaTeX is in `paper` alone
    7  figures              frames in, `Figure` out; figures are rows of data
    6  claims               the published statements and their verdicts; `claims.checks`: the ways of looking at one
    5  results              records become numbers and frames; no LaTeX, no sentences
    4  run, records         one makes records, one reads them
    3  plan                 all that is asked, as data: studies, stages, protocols, settings, runs
    2  sources              what a name of a model or a text stands for, and how it is got
    1  checkout             where this checkout lies

A number goes up these stairs once: asked in `plan`, made by `run`, read by `records`, computed in `results`, judged in
`claims`, drawn in `figures`, and said in `paper`. docs/architecture.md follows one all the way.
"""
