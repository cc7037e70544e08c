"""The network: one trace, everything else is algebra."""
