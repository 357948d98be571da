"""The vendors' wire forms: each module reads requests of one form into an `Ask` and writes a `Plan` in that form."""
