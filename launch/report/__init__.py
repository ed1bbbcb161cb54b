"""The page of a run, and the page that compares several.

    folder --history--> what happened --chart, strips, gantt, diagram, table--> markup
                                          portrait | comparison --page--> one HTML file

A page needs nothing but itself: no fonts, scripts or pictures from elsewhere. It is complete
without JavaScript; a small script of its own adds read-outs under the pointer.
"""

from .command import report_command, write_report

__all__ = ["report_command", "write_report"]
