"""Intervals and tests of significance, one of each, for whoever measures: the evaluator's scores, the exporter's losses."""
