"""Figures as a part of the page: no style of their own, and colours that follow the page, light or dark."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

from distill.pages.figures import BLUE, GREY, GRID, ORANGE, STRIPE

COLOURS = {
    "#000000": "ink",
    "#ffffff": "paper",
    GRID: "grid",
    STRIPE: "soft",
    GREY: "grey",
    BLUE: "blue",
    ORANGE: "orange",
}
"""The colours that differ in the dark: the page's variable for each; its value in the light is the figure's own."""
_ROOT = {"fill": "var(--ink)", "stroke-linejoin": "round", "stroke-linecap": "butt", "role": "img"}
_KEPT = {"g", "defs", "path", "use", "rect", "circle", "ellipse", "line", "polygon", "polyline", "clipPath"}


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _clean(element: ElementTree.Element, prefix: str) -> None:
    """Drops what is no shape, and turns style into attributes, which the page's policy lets through."""
    element.tag = _plain(element.tag)
    attributes = {_plain(name): value for name, value in element.attrib.items()}
    for rule in filter(str.strip, attributes.pop("style", "").split(";")):
        name, _, value = rule.partition(":")
        attributes[name.strip()] = value.strip()
    for name, value in attributes.items():
        if name == "id":
            value = f"{prefix}-{value}"
        value = re.sub("#([^)]+)", rf"#{prefix}-\1", value) if name in ("href", "clip-path") else value
        attributes[name] = f"var(--{COLOURS[value]}, {value})" if value in COLOURS else value
    element.attrib.clear()
    element.attrib.update(attributes)
    element.text = element.tail = None
    for child in [*element]:
        if isinstance(child.tag, str) and _plain(child.tag) in _KEPT:
            _clean(child, prefix)
        else:
            element.remove(child)


def inline(svg: bytes, name: str, label: str) -> Markup:
    """Returns a figure of Matplotlib as an element of the page.

    Args:
        svg: the file.
        name: of the figure; it begins every id, so that two figures share none.
        label: what the figure shows, for those who do not see it.
    """
    root = ElementTree.fromstring(svg)
    view = root.attrib["viewBox"]
    _clean(root, name)
    root.attrib.clear()
    root.attrib.update(_ROOT | {"viewBox": view, "aria-label": label})
    return Markup(ElementTree.tostring(root, encoding="unicode"))
