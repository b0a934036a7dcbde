"""Self-contained HTML pages: text, tables, plots and filterable cards of judged pictures."""

from critic_jax.reporting.cards import Card, Ruling, card, deck
from critic_jax.reporting.html import Html, element, escape
from critic_jax.reporting.page import Page, paragraph, section
from critic_jax.reporting.plots import bar_plot, histogram, line_plot
from critic_jax.reporting.tables import facts, table

__all__ = [
    "Card",
    "Html",
    "Page",
    "Ruling",
    "bar_plot",
    "card",
    "deck",
    "element",
    "escape",
    "facts",
    "histogram",
    "line_plot",
    "paragraph",
    "section",
    "table",
]
