"""From files of critic records to what training reads. Imports no JAX: loader processes use it."""

from critic_jax.data.json_lines import read_json_lines, scan_json_lines
from critic_jax.data.records import BadRecord, Record, picture_sources, read_records

__all__ = [
    "BadRecord",
    "Record",
    "picture_sources",
    "read_json_lines",
    "read_records",
    "scan_json_lines",
]
