"""Icons, drawn here: strokes in a square of 24."""

from __future__ import annotations

from typing import Final

from modelyard.client.drawing.markup import Markup, h

_PATHS: Final = {
    "home": "M4 11 12 4l8 7v8a1 1 0 0 1-1 1h-4v-6H9v6H5a1 1 0 0 1-1-1z",
    "data": "M4 6c0-4 16-4 16 0s-16 4-16 0v6c0 4 16 4 16 0V6M4 12v6c0 4 16 4 16 0v-6",
    "run": "M6 4l14 8-14 8z",
    "model": "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
    "endpoint": "M5 12a7 7 0 0 1 14 0M8.5 12a3.5 3.5 0 0 1 7 0M12 12v8M8 20h8",
    "device": "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
    "settings": "M4 7h10M18 7h2M4 17h2M10 17h10M14 5v4M6 15v4",
    "audit": "M6 3h9l4 4v14H6zM14 3v5h5M9 12h7M9 16h7",
    "plus": "M12 5v14M5 12h14",
    "check": "M5 13l4 4L19 7",
    "cross": "M6 6l12 12M18 6 6 18",
    "alert": "M12 4 2.5 20h19zM12 10v4M12 17v.5",
    "info": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v6M12 7.5v.5",
    "clock": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3.5 2",
    "dash": "M7 12h10",
    "moon": "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
    "menu": "M4 7h16M4 12h16M4 17h16",
    "upload": "M12 16V5M7 9l5-5 5 5M5 20h14",
    "download": "M12 4v11M7 11l5 5 5-5M5 20h14",
    "folder": "M3 6h6l2 2h10v11H3z",
    "file": "M6 3h8l4 4v14H6zM14 3v4h4",
    "search": "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.5 16.5 21 21",
    "left": "M14 6l-6 6 6 6",
    "right": "M10 6l6 6-6 6",
    "back": "M9 7 4 12l5 5M4 12h11a5 5 0 0 1 0 10",
    "compare": "M8 4v16M16 4v16M4 8l4-4 4 4M12 16l4 4 4-4",
    "wand": "M5 19 15 9M14 4v3M12.5 5.5h3M19 9v3M17.5 10.5h3M18 4v2M17 5h2",
    "sound": "M4 9v6h4l5 4V5L8 9zM16 9a4 4 0 0 1 0 6M18.5 6.5a8 8 0 0 1 0 11",
    "door": "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
    "pen": "M4 20l1-5L16 4l4 4L9 19z",
    "logo": "M4 20V8l8-4 8 4v12M8 20v-7l4-2 4 2v7",
}


def icon(name: str, label: str = "") -> Markup:
    """An icon; with a label it is read out, without one it is decoration."""
    path = h("path", d=_PATHS[name])
    said = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return h("svg", path, cls=f"icon icon-{name}", viewBox="0 0 24 24", **said)
