"""How a document of perfSONAR 5 and the datapoints of esmond correspond, in both directions; nothing here talks to a server.

`places` says which field of a document holds which event type, `metadata` what a test's specification is in esmond's words, `values`
how single values change their form, `documents` and `reading` put whole documents together and take them apart.

Where a value of esmond cannot be told from the field that holds it (a bucket called "59" is one called 59.0 afterwards), the document
has the value as it was, too, under `esmond.json.values`. The template of perfSONAR 5 does not index objects that are called `json`, and
nothing of perfSONAR reads this one, so a copy looks like any other result and still loses nothing.
"""
