"""The JSON of the operations API, one module a noun: what comes in (`…Request`) and what goes out (`…View`).

Times are ISO 8601 in UTC, durations seconds, sizes bytes. Listings are plain arrays, newest first unless said.
"""
