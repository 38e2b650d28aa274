"""Texts of viser's page that are recon's: title, icon, description, and the keyboard map."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from viewer.scene import ViewerScene

# Three splats.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" \
rx="7" fill="#16181d"/><g opacity=".9"><ellipse cx="12" cy="12" rx="9" ry="5" fill="#ff6b4a" \
transform="rotate(-35 12 12)"/><ellipse cx="20" cy="15" rx="9" ry="5" fill="#4ac7ff" \
transform="rotate(40 20 15)"/><ellipse cx="15" cy="22" rx="9" ry="5" fill="#ffd24a" \
transform="rotate(-8 15 22)"/></g></svg>"""
KEYS = {
    "W S": "move forward, back", "A D": "move left, right", "Q E": "move down, up",
    "arrow keys": "rotate the view", "drag": "rotate around the scene",
    "drag with the right button": "move sideways", "wheel": "zoom",
    "Ctrl or Cmd + K": "find a command", "?": "this map", "Esc": "close it",
}  # fmt: skip
# The element of this map; it also tells that recon wrote a page.
MARK = 'id="recon-keys"'
SCRIPT = """<script>addEventListener("keydown", event => {
  const map = document.getElementById("recon-keys");
  const typed = event.target.closest?.("input,textarea");
  if (event.key === "?" && !typed) map.hidden = !map.hidden;
  else if (event.key === "Escape") map.hidden = true;
});</script>"""
STYLE = (
    "position:fixed;left:24px;top:24px;z-index:10000;padding:16px 24px;border-radius:8px;"
    "background:#16181de8;color:#eee;font:14px/1.7 system-ui,sans-serif"
)


@dataclass(frozen=True)
class PageTexts:
    """What a page says about itself."""

    title: str
    description: str


def page_texts(scenes: Sequence[ViewerScene]) -> PageTexts:
    """Name the scenes of a page."""
    names = ", ".join(scene.name for scene in scenes)
    count = sum(len(scene.state.gaussians) for scene in scenes)
    return PageTexts(
        f"{names} - recon" if names else "recon",
        f"{names}: {count:,} 3D Gaussians, displayed by recon",
    )


def with_texts(page: str, texts: PageTexts) -> str:
    """Replace viser's title, icon and description in a page, and add the keyboard map (key ?)."""
    title, description = html.escape(texts.title), html.escape(texts.description)
    page = re.sub(r"<title>[^<]*</title>", lambda _: f"<title>{title}</title>", page, count=1)
    page = re.sub(
        r'(<meta name="description" content=")[^"]*', lambda m: m[1] + description, page, count=1
    )
    icon = f"data:image/svg+xml,{quote(ICON)}"
    page = re.sub(r'(<link\s+rel="icon"\s+href=")[^"]*', lambda m: m[1] + icon, page, count=1)
    rows = "".join(
        f"<tr><td><b>{html.escape(key)}</b></td><td>&nbsp; {html.escape(text)}</td></tr>"
        for key, text in KEYS.items()
    )
    keys = f'<div {MARK} hidden style="{STYLE}"><table>{rows}</table></div>{SCRIPT}'
    head, end, rest = page.rpartition("</body>")
    return f"{head}{keys}{end}{rest}" if end else page + keys
