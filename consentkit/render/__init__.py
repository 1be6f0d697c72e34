"""What a visitor reads: the words, the banner, the placeholders, the pages; rendered from `templates/`."""

from consentkit.render.late import Hosts
from consentkit.render.renderer import Renderer, SiteView
from consentkit.render.texts import Texts, languages, load_texts, parity

__all__ = ["Hosts", "Renderer", "SiteView", "Texts", "languages", "load_texts", "parity"]
